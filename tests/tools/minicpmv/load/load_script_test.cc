#include "tools/minicpmv/load/load_script.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "runtime/base/data_uri.h"
#include "tools/minicpmv/load/drawn_picture.h"

namespace minicpmv {
namespace {

TEST(LoadScriptTest, HoldsAFirstTurnOnOneLine) {
  PlannedConversation conversation;
  conversation.arrival = absl::Milliseconds(1500);
  conversation.max_slices = 4;
  conversation.text_seed = 7;
  conversation.turns = {{{}, 20, 8, {{30, 20, 5}}}, {absl::Milliseconds(250), 6, 3, {}}};
  const std::string line = ScriptLineOf(conversation, 2);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  EXPECT_EQ(ScriptLineOf(conversation, 2), line);

  const auto turn = nlohmann::json::parse(line);
  EXPECT_EQ(turn["timestamp"], 1500);
  EXPECT_FALSE(turn["text"].get<std::string>().empty());
  ASSERT_EQ(turn["images"].size(), 1u);
  EXPECT_EQ(*BytesOfDataUri(turn["images"][0].get<std::string>()), DrawPicture(30, 20, 5));
  EXPECT_EQ(turn["output_length"], 8);
  EXPECT_EQ(turn["extra"]["min_tokens"], 8);
  EXPECT_EQ(turn["extra"]["temperature"], 0);
  EXPECT_EQ(turn["extra"]["mm_processor_kwargs"]["max_slice_nums"], 4);

  conversation.turns.front().pictures.clear();
  EXPECT_FALSE(nlohmann::json::parse(ScriptLineOf(conversation, 2)).contains("images"));
}

}  // namespace
}  // namespace minicpmv
