#include "tools/minicpmv/local_reply.h"

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "runtime/engine/local_model.h"
#include "tools/minicpmv/conversation.h"
#include "tools/minicpmv/picture_rows.h"

namespace minicpmv {
namespace {

constexpr int64_t kTokens = 500;

std::unique_ptr<LocalModel> Nano(int64_t pages) {
  LocalModelOptions options;
  options.folder = absl::StrCat(MINICPMV_SOURCE_DIR, "/tools/nano/model");
  options.devices = {{1}};
  options.pages = pages;
  options.sequences = 2;
  return LocalModel::Load(options).value();
}

// A drawn reply that does not end by itself.
Reply Ask(LocalModel& model, const std::string& question, uint64_t seed) {
  Conversation conversation;
  conversation.messages.push_back(Message{"user", {{question}}});
  ReplyOptions options;
  options.seed = seed;
  options.min_new_tokens = kTokens;
  options.max_new_tokens = kTokens;
  PictureRows rows(model, std::nullopt, options.exif);
  std::string sent;
  Reply reply = LocalReply(model)
                    .Run(conversation, options, rows,
                         [&](absl::string_view piece) {
                           sent.append(piece.data(), piece.size());
                           return absl::OkStatus();
                         })
                    .value();
  EXPECT_EQ(sent, reply.text);
  return reply;
}

TEST(LocalReplyTest, WhoGivesPagesToAnotherReplyGoesOnFromItsTokens) {
  const std::vector<std::string> questions = {"Who are you?", "What can you tell me?"};
  std::vector<Reply> alone, together(questions.size());
  {
    const std::unique_ptr<LocalModel> model = Nano(/*pages=*/64);
    for (size_t i = 0; i < questions.size(); ++i) alone.push_back(Ask(*model, questions[i], i));
    EXPECT_EQ(model->engine().stats().preempted, 0);
  }

  // Room for both to begin and for one to end.
  const std::unique_ptr<LocalModel> model = Nano(/*pages=*/44);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < questions.size(); ++i) {
    threads.emplace_back([&, i] { together[i] = Ask(*model, questions[i], i); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(model->engine().stats().preempted, 1);
  for (size_t i = 0; i < questions.size(); ++i) {
    EXPECT_EQ(together[i].tokens, alone[i].tokens);
    EXPECT_EQ(together[i].text, alone[i].text);
    EXPECT_EQ(together[i].tokens.size(), static_cast<size_t>(kTokens));
    EXPECT_EQ(together[i].end, ReplyEnd::kLength);
  }
}

}  // namespace
}  // namespace minicpmv
