// Bytes become a conversation; a prompt that is built has its placeholders where its spans say, and nowhere else.
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/model/prompt.h"

namespace minicpmv {
namespace {

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }
  uint8_t Next() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  std::string Text() {
    const size_t count = std::min<size_t>(Next(), size_);
    const std::string text(reinterpret_cast<const char*>(data_), count);
    data_ += count;
    size_ -= count;
    return text;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

struct Model {
  ModelSpec spec;
  std::unique_ptr<Tokenizer> tokenizer;
  Model() {
    const std::string folder = std::string(MINICPMV_SOURCE_DIR) + "/tools/nano/model";
    spec = *ReadModelSpec(folder);
    tokenizer = *Tokenizer::Load(folder);
  }
};

void Run(Bytes bytes) {
  static const Model model;
  static const PromptBuilder builder = *PromptBuilder::Create(model.spec, *model.tokenizer);
  PromptOptions options;
  const uint8_t flags = bytes.Next();
  options.image_ids = flags & 1;
  options.drop_token_zero = flags & 2;  // tags stay text: what users type may not make placeholders
  std::vector<Message> messages;
  std::vector<SlicePlan> plans;
  while (!bytes.empty() && messages.size() < 100) {
    static const char* const kRoles[] = {"user", "assistant", "system", "tool"};
    const uint8_t head = bytes.Next();
    Message message = {kRoles[head % 4], {}};
    for (int i = 0; i < head / 64; ++i) {
      if (bytes.Next() % 4 == 0) {
        SlicePlan plan;
        plan.grid_columns = bytes.Next() % 4;
        plan.grid_rows = plan.grid_columns == 0 ? 0 : 1 + bytes.Next() % 4;
        plans.push_back(plan);
        message.parts.push_back({"", true});
      } else {
        message.parts.push_back({bytes.Text()});
      }
    }
    messages.push_back(std::move(message));
  }
  const absl::StatusOr<Prompt> prompt = builder.Build(messages, plans, options);
  if (!prompt.ok()) return;
  const int32_t placeholder = *model.tokenizer->SpecialId(model.spec.family->marks.placeholder);
  std::vector<bool> held(prompt->tokens.size());
  for (const Prompt::Span& span : prompt->spans) {
    for (int64_t i = 0; i < model.spec.resampler.queries; ++i) held.at(static_cast<size_t>(span.first + i)) = true;
  }
  for (size_t i = 0; i < held.size(); ++i) {
    CHECK(prompt->tokens[i] >= 0 && prompt->tokens[i] < model.spec.language.vocabulary) << prompt->tokens[i];
    CHECK_EQ(prompt->tokens[i] == placeholder, held[i]) << "at " << i;
  }
}

}  // namespace
}  // namespace minicpmv

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  minicpmv::Run({data, size});
  return 0;
}
