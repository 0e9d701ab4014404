#include "runtime/model/prompt.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {
namespace {

// Counting starts at 1: people read this.
absl::Status MessageError(size_t index, absl::string_view words) {
  return absl::InvalidArgumentError(absl::StrCat("message ", index + 1, " ", words));
}

absl::Status CheckConversation(absl::Span<const Message> messages, size_t plans) {
  if (messages.empty()) return absl::InvalidArgumentError("the conversation has no messages");
  size_t images = 0;
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    if (message.role != "system" && message.role != "user" && message.role != "assistant") {
      return MessageError(i, absl::StrCat("has the role ", Quoted(message.role), "; roles are system, user and assistant"));
    }
    if (message.role == "system" && i != 0) return MessageError(i, "is a system message, which only the first may be");
    bool has_content = false;
    for (const MessagePart& part : message.parts) {
      if (part.is_image && message.role == "system") return MessageError(i, "is a system message with an image");
      images += part.is_image ? 1 : 0;
      has_content = has_content || part.is_image || !part.text.empty();
    }
    if (!has_content && message.role != "system") return MessageError(i, "is empty");
  }
  const size_t first = messages[0].role == "system" ? 1 : 0;
  if (first == messages.size()) return absl::InvalidArgumentError("the conversation has no user message");
  if (messages[first].role != "user") return MessageError(first, "comes first and is not the user's");
  if (messages.back().role != "user") return MessageError(messages.size() - 1, "comes last and is not the user's");
  if (images > kMaxImages) {
    return absl::InvalidArgumentError(absl::StrCat("the conversation has ", images, " images, at most ", kMaxImages, " are read"));
  }
  CHECK_EQ(images, plans);
  return absl::OkStatus();
}

}  // namespace

// Collects tokens. Text waits until the next special token, so that what stands together is tokenised together.
class PromptBuilder::Writer {
 public:
  Writer(const PromptBuilder& builder, const PromptOptions& options) : builder_(builder), options_(options) {}

  void Text(absl::string_view text) { absl::StrAppend(&waiting_, text); }

  absl::Status Token(int32_t id) {
    RETURN_IF_ERROR(Flush());
    prompt_.tokens.push_back(id);
    return absl::OkStatus();
  }

  absl::Status Rows(int32_t start, int32_t end, int32_t image, int32_t sub_image) {
    RETURN_IF_ERROR(Token(start));
    prompt_.spans.push_back({static_cast<int32_t>(prompt_.tokens.size()), image, sub_image});
    prompt_.tokens.insert(prompt_.tokens.end(), builder_.spec_.resampler.queries, builder_.ids_.placeholder);
    return Token(end);
  }

  absl::Status Image(int32_t image, const SlicePlan& plan) {
    const Ids& ids = builder_.ids_;
    if (options_.image_ids) {
      RETURN_IF_ERROR(Token(ids.image_id_start));
      Text(absl::StrCat(image));
      RETURN_IF_ERROR(Token(ids.image_id_end));
    }
    RETURN_IF_ERROR(Rows(ids.image_start, ids.image_end, image, 0));
    for (int row = 0; row < plan.grid_rows; ++row) {
      if (row > 0) Text("\n");
      for (int column = 0; column < plan.grid_columns; ++column) {
        RETURN_IF_ERROR(Rows(ids.slice_start, ids.slice_end, image, 1 + row * plan.grid_columns + column));
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Prompt> Finish() {
    RETURN_IF_ERROR(Flush());
    return std::move(prompt_);
  }

 private:
  absl::Status Flush() {
    if (waiting_.empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(const std::vector<int32_t> ids, builder_.tokenizer_->Encode(waiting_, options_.tags));
    for (const int32_t id : ids) {
      if (id != 0 || !options_.drop_token_zero) prompt_.tokens.push_back(id);
    }
    waiting_.clear();
    return absl::OkStatus();
  }

  const PromptBuilder& builder_;
  const PromptOptions& options_;
  Prompt prompt_;
  std::string waiting_;
};

absl::StatusOr<PromptBuilder> PromptBuilder::Create(const ModelSpec& spec, const Tokenizer& tokenizer) {
  if (tokenizer.size() > spec.language.vocabulary) {
    return absl::InvalidArgumentError(absl::StrCat("the tokenizer has ids up to ", tokenizer.size() - 1, ", config.json's vocab_size is ",
                                                   spec.language.vocabulary));
  }
  PromptBuilder builder(spec, tokenizer);
  const auto find = [&](absl::string_view token) -> absl::StatusOr<int32_t> {
    const std::optional<int32_t> id = tokenizer.SpecialId(token);
    if (id.has_value()) return *id;
    return absl::InvalidArgumentError(absl::StrCat("the tokenizer lacks the special token ", token));
  };
  const PromptMarks& marks = spec.family->marks;
  Ids& ids = builder.ids_;
  ASSIGN_OR_RETURN(ids.message_start, find(marks.message_start));
  ASSIGN_OR_RETURN(ids.message_end, find(marks.message_end));
  ASSIGN_OR_RETURN(ids.image_start, find(marks.image_start));
  ASSIGN_OR_RETURN(ids.image_end, find(marks.image_end));
  ASSIGN_OR_RETURN(ids.slice_start, find(marks.slice_start));
  ASSIGN_OR_RETURN(ids.slice_end, find(marks.slice_end));
  ASSIGN_OR_RETURN(ids.image_id_start, find(marks.image_id_start));
  ASSIGN_OR_RETURN(ids.image_id_end, find(marks.image_id_end));
  ASSIGN_OR_RETURN(ids.placeholder, find(marks.placeholder));
  for (const absl::string_view stop : spec.family->stop_tokens) {
    ASSIGN_OR_RETURN(const int32_t id, find(stop));
    builder.stop_ids_.push_back(id);
  }
  return builder;
}

absl::StatusOr<Prompt> PromptBuilder::Build(absl::Span<const Message> messages, absl::Span<const SlicePlan> plans,
                                            const PromptOptions& options) const {
  RETURN_IF_ERROR(CheckConversation(messages, plans.size()));
  const PromptMarks& marks = spec_.family->marks;
  Writer writer(*this, options);
  int32_t images = 0;

  const auto write_parts = [&](const std::vector<MessagePart>& parts) -> absl::Status {
    for (size_t i = 0; i < parts.size(); ++i) {
      if (i > 0) writer.Text("\n");
      if (parts[i].is_image) {
        RETURN_IF_ERROR(writer.Image(images, plans[images]));
        ++images;
      } else {
        writer.Text(parts[i].text);
      }
    }
    return absl::OkStatus();
  };
  const auto write_message = [&](absl::string_view role, const std::vector<MessagePart>& parts) -> absl::Status {
    RETURN_IF_ERROR(writer.Token(ids_.message_start));
    writer.Text(absl::StrCat(role, marks.after_role));
    RETURN_IF_ERROR(write_parts(parts));
    RETURN_IF_ERROR(writer.Token(ids_.message_end));
    writer.Text(marks.after_message);
    return absl::OkStatus();
  };

  std::vector<MessagePart> system = {{std::string(marks.default_system)}};
  if (messages[0].role == "system") {
    bool says_something = false;
    for (const MessagePart& part : messages[0].parts) says_something = says_something || !part.text.empty();
    if (says_something) system = messages[0].parts;
    messages.remove_prefix(1);
  }
  RETURN_IF_ERROR(write_message("system", system));
  for (const Message& message : messages) RETURN_IF_ERROR(write_message(message.role, message.parts));
  RETURN_IF_ERROR(writer.Token(ids_.message_start));
  writer.Text(absl::StrCat("assistant", marks.after_role));
  return writer.Finish();
}

}  // namespace minicpmv
