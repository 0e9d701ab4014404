// What the original code answered to 240 questions about pictures, from the same folder, against
// ours: all at once through one engine.
#include <fstream>
#include <future>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tools/minicpmv/conversation.h"
#include "runtime/engine/local_model.h"
#include "tools/minicpmv/local_reply.h"
#include "tools/minicpmv/picture_rows.h"
#include "runtime/text/reply_text.h"

namespace minicpmv {
namespace {

const std::string& Folder() {
  static const std::string folder = absl::StrCat(MINICPMV_SOURCE_DIR, "/tools/nano");
  return folder;
}

// One question in the engine's hands.
class Asked final : public SequenceObserver {
 public:
  Asked(LocalModel& model, const nlohmann::json& question)
      : model_(model), answer_(question["answer"]) {
    conversation_ =
        ParseConversation(question["messages"].dump(), "questions.json", Folder()).value();
    const nlohmann::json& options = question["options"];
    if (options.contains("system")) {
      conversation_.messages.insert(conversation_.messages.begin(),
                                    Message{"system", {{options["system"].get<std::string>()}}});
    }
    ReplyOptions reply;
    reply.image_ids = options.value("use_image_id", true);
    if (options.contains("max_slice_nums")) reply.max_slices = options["max_slice_nums"].get<int>();
    rows_ = std::make_unique<PictureRows>(model_, reply.max_slices, reply.exif);
    const Prompt prompt = LocalReply(model_).Lay(conversation_, reply, *rows_).value();
    Bill bill;
    for (const Prompt::Span& span : prompt.spans) {
      row_views_.push_back(
          rows_->Encode(conversation_.pictures, span.image, span.sub_image, bill).value());
      request_.spans.push_back({span.first, model_.spec().resampler.queries});
    }
    request_.tokens = prompt.tokens;
    request_.prompt_tokens = static_cast<int64_t>(prompt.tokens.size());
    request_.sampling.greedy = true;
    request_.sampling.max_new_tokens = 48;
    request_.sampling.stop_ids = model_.prompts().stop_ids();
  }

  void Submit() {
    const SequenceId id = model_.engine().Submit(request_, *this).value();
    for (size_t i = 0; i < row_views_.size(); ++i) {
      model_.engine().ProvideRows(id, static_cast<int64_t>(i), row_views_[i]);
    }
  }

  void OnToken(int32_t token) override { request_.tokens.push_back(token); }
  void OnEnd(absl::StatusOr<Finish> finish) override { ended_.set_value(finish.status()); }

  // Whether the answer is the original's, to the letter.
  bool IsRight() {
    const absl::Status status = ended_.get_future().get();
    if (!status.ok()) {
      ADD_FAILURE() << status;
      return false;
    }
    ReplyText text = ReplyText::Create(model_.tokenizer(), {}).value();
    std::string said;
    for (size_t i = static_cast<size_t>(request_.prompt_tokens); i < request_.tokens.size(); ++i) {
      const int32_t token = request_.tokens[i];
      if (token != request_.sampling.stop_ids[0] && token != request_.sampling.stop_ids[1])
        said += text.Push(token);
    }
    said += text.Finish();
    if (said != answer_)
      std::cout << "said \"" << said << "\", the original \"" << answer_ << "\"\n";
    return said == answer_;
  }

 private:
  LocalModel& model_;
  const std::string answer_;
  Conversation conversation_;
  std::unique_ptr<PictureRows> rows_;
  std::vector<ConstTensorView> row_views_;
  SequenceRequest request_;
  std::promise<absl::Status> ended_;
};

struct Score {
  int questions = 0;
  int right = 0;  // answered as the original did
};

Score Ask(LocalModelOptions options) {
  options.folder = absl::StrCat(Folder(), "/model");
  options.sequences = 32;
  const std::unique_ptr<LocalModel> model = LocalModel::Load(options).value();
  std::ifstream file(absl::StrCat(Folder(), "/questions.json"));
  std::vector<std::unique_ptr<Asked>> questions;
  for (const nlohmann::json& question : nlohmann::json::parse(file)) {
    questions.push_back(std::make_unique<Asked>(*model, question));
    questions.back()->Submit();
  }
  Score score;
  for (const std::unique_ptr<Asked>& question : questions) {
    ++score.questions;
    score.right += question->IsRight();
  }
  return score;
}

TEST(NanoQuestionsTest, EveryAnswerIsTheOriginalsWithAnExactCache) {
  LocalModelOptions options;
  options.kv_dtype = DType::kF32;
  const Score score = Ask(options);
  EXPECT_EQ(score.questions, 240);
  EXPECT_EQ(score.right, 240);
}

TEST(NanoQuestionsTest, NearlyEveryAnswerIsTheOriginalsWithTheDefaultCache) {
  const Score score = Ask({});
  EXPECT_GE(score.right, 0.98 * score.questions);
  std::cout << score.right << " of " << score.questions << "\n";
}

TEST(NanoQuestionsTest, StagesChunksPagesAndDepthChangeNoAnswer) {
  LocalModelOptions options;
  options.kv_dtype = DType::kF32;
  options.devices = {{1}, {1}, {1}};
  options.chunk = 33;
  options.depth = 4;
  options.pages = 100;  // few of the sequences fit at a time
  const Score score = Ask(options);
  EXPECT_EQ(score.right, 240);
}

}  // namespace
}  // namespace minicpmv
