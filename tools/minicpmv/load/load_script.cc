#include "tools/minicpmv/load/load_script.h"

#include <nlohmann/json.hpp>
#include <random>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "tools/minicpmv/load/drawn_turn.h"

namespace minicpmv {

std::string ScriptLineOf(const PlannedConversation& conversation, double tokens_per_word) {
  const PlannedTurn& planned = conversation.turns.front();
  std::mt19937_64 random(conversation.text_seed);
  DrawnTurn drawn = DrawTurn(planned, tokens_per_word, random);
  nlohmann::ordered_json line = {{"timestamp", absl::ToDoubleMilliseconds(conversation.arrival)},
                                 {"text", std::move(drawn.text)}};
  for (const std::string& picture : drawn.pictures) {
    line["images"].push_back(absl::StrCat("data:image/png;base64,", absl::Base64Escape(picture)));
  }
  line["output_length"] = planned.output_tokens;
  line["extra"] = {{"min_tokens", planned.output_tokens},
                   {"temperature", 0},
                   {"mm_processor_kwargs", {{"max_slice_nums", conversation.max_slices}}}};
  return absl::StrCat(line.dump(), "\n");
}

}  // namespace minicpmv
