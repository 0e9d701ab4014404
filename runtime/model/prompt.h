#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/media/slicing.h"
#include "runtime/model/family.h"
#include "runtime/text/tokenizer.h"

namespace minicpmv {

// Images of one conversation, at most.
inline constexpr int kMaxImages = 64;

// A piece of a message: text, or the conversation's next image.
struct MessagePart {
  std::string text;
  bool is_image = false;  // then text is empty
};

struct Message {
  std::string role;  // "system", "user" or "assistant"
  std::vector<MessagePart> parts;
};

struct PromptOptions {
  bool image_ids = true;    // number the images
  Tags tags = Tags::kText;  // whether "<box>" in somebody's text is text or the token of that name
  // The original masks every token 0 ("!") of a prompt, as if it were not there. True: leave them out, which gives the same.
  bool drop_token_zero = false;
};

// Token ids with placeholders for embedding rows.
struct Prompt {
  struct Span {
    int32_t first = 0;      // position of the first placeholder; the family's number of queries follow
    int32_t image = 0;      // which image of the conversation
    int32_t sub_image = 0;  // which sub-image of it, overview first
  };
  std::vector<int32_t> tokens;
  std::vector<Span> spans;  // rising
};

// Lays conversations out as the family was trained to read them. Immutable; the tokenizer outlives it. Thread-safe.
class PromptBuilder {
 public:
  // INVALID_ARGUMENT: the tokenizer lacks a token that the family needs, or has ids beyond the model's vocabulary.
  static absl::StatusOr<PromptBuilder> Create(const ModelSpec& spec, const Tokenizer& tokenizer);

  // `plans` has one entry for each image, in order. Without a system message, or with an empty one, the family's own is used.
  // A message's parts are joined by one line feed.
  // INVALID_ARGUMENT, naming the message: no message, an unknown role, a system message that is not the first, a
  // conversation that does not begin (after it) and end with the user, a message without content, more than kMaxImages,
  // text that is not UTF-8.
  absl::StatusOr<Prompt> Build(absl::Span<const Message> messages, absl::Span<const SlicePlan> plans,
                               const PromptOptions& options) const;

  // Tokens that end a reply.
  const std::vector<int32_t>& stop_ids() const { return stop_ids_; }

 private:
  class Writer;
  struct Ids {
    int32_t message_start, message_end, image_start, image_end, slice_start, slice_end, image_id_start, image_id_end, placeholder;
  };
  PromptBuilder(const ModelSpec& spec, const Tokenizer& tokenizer) : spec_(spec), tokenizer_(&tokenizer) {}

  ModelSpec spec_;
  const Tokenizer* tokenizer_;
  Ids ids_ = {};
  std::vector<int32_t> stop_ids_;
};

}  // namespace minicpmv
