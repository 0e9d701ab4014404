#include "services/gateway/unsupported.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/base/status_macros.h"

namespace minicpmv::gateway {
namespace {

// What a field's value has to be to ask for nothing.
enum class Nothing {
  kNull,
  kFalse,
  kTrue,
  kZero,
  kOne,
  kEmptyObject,
  kEmptyList,  // of objects
  kNoNumbers,  // an empty list
};

struct Field {
  const char* name;
  Nothing nothing;
};

constexpr Field kFields[] = {
    // OpenAI's.
    {"n", Nothing::kOne},
    {"logprobs", Nothing::kFalse},
    {"top_logprobs", Nothing::kZero},
    {"logit_bias", Nothing::kEmptyObject},
    {"frequency_penalty", Nothing::kZero},
    {"presence_penalty", Nothing::kZero},
    {"tools", Nothing::kEmptyList},
    {"functions", Nothing::kEmptyList},
    {"audio", Nothing::kNull},
    {"prediction", Nothing::kNull},
    {"web_search_options", Nothing::kNull},
    {"reasoning_effort", Nothing::kNull},
    {"store", Nothing::kFalse},
    // vLLM's.
    {"best_of", Nothing::kOne},
    {"use_beam_search", Nothing::kFalse},
    {"length_penalty", Nothing::kOne},
    {"min_p", Nothing::kZero},
    {"stop_token_ids", Nothing::kNoNumbers},
    {"ignore_eos", Nothing::kFalse},
    {"include_stop_str_in_output", Nothing::kFalse},
    {"skip_special_tokens", Nothing::kTrue},
    {"priority", Nothing::kZero},
    {"cache_salt", Nothing::kNull},
    {"prompt_logprobs", Nothing::kZero},
    {"truncate_prompt_tokens", Nothing::kNull},
    {"echo", Nothing::kFalse},
    {"add_generation_prompt", Nothing::kTrue},
    {"continue_final_message", Nothing::kFalse},
    {"chat_template", Nothing::kNull},
    {"chat_template_kwargs", Nothing::kEmptyObject},
    {"structured_outputs", Nothing::kNull},
    {"guided_json", Nothing::kNull},
    {"guided_regex", Nothing::kNull},
    {"guided_choice", Nothing::kNull},
    {"guided_grammar", Nothing::kNull},
};

absl::StatusOr<bool> AsksForNothing(const JsonObject& object, const Field& field) {
  if (!object.Has(field.name)) return true;
  switch (field.nothing) {
    case Nothing::kNull:
      return false;
    case Nothing::kFalse:
    case Nothing::kTrue: {
      ASSIGN_OR_RETURN(const bool value, object.Bool(field.name));
      return value == (field.nothing == Nothing::kTrue);
    }
    case Nothing::kZero:
    case Nothing::kOne: {
      ASSIGN_OR_RETURN(const double value, object.Number(field.name));
      return value == (field.nothing == Nothing::kOne ? 1 : 0);
    }
    case Nothing::kEmptyObject: {
      ASSIGN_OR_RETURN(const JsonObject value, object.Object(field.name));
      return value.keys().empty();
    }
    case Nothing::kEmptyList: {
      ASSIGN_OR_RETURN(const std::vector<JsonObject> value, object.ObjectList(field.name));
      return value.empty();
    }
    case Nothing::kNoNumbers: {
      ASSIGN_OR_RETURN(const std::vector<double> value, object.NumberList(field.name));
      return value.empty();
    }
  }
  return false;
}

absl::Status NotSupported(const JsonObject& object, absl::string_view name,
                          absl::string_view words = "is not supported here") {
  return object.Error(name, words, absl::StatusCode::kUnimplemented);
}

absl::Status Check(const JsonObject& object, const Field& field) {
  ASSIGN_OR_RETURN(const bool asks_for_nothing, AsksForNothing(object, field));
  return asks_for_nothing ? absl::OkStatus() : NotSupported(object, field.name);
}

absl::Status CheckToolChoice(const JsonObject& body) {
  for (const char* const name : {"tool_choice", "function_call"}) {
    if (!body.Has(name)) continue;
    const absl::StatusOr<std::string> choice = body.String(name);
    if (!choice.ok() || (*choice != "none" && *choice != "auto")) return NotSupported(body, name);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSupport(const JsonObject& body) {
  for (const Field& field : kFields) RETURN_IF_ERROR(Check(body, field));
  RETURN_IF_ERROR(CheckToolChoice(body));
  ASSIGN_OR_RETURN(const std::optional<JsonObject> format, body.OptionalObject("response_format"));
  if (format.has_value()) {
    ASSIGN_OR_RETURN(const std::string type, format->String("type"));
    if (type != "text") return NotSupported(body, "response_format", "is not text, the only one");
  }
  ASSIGN_OR_RETURN(const auto modalities, body.OptionalStringList("modalities"));
  if (modalities.has_value() && *modalities != std::vector<std::string>{"text"}) {
    return NotSupported(body, "modalities", "is not text, the only one");
  }
  return absl::OkStatus();
}

absl::Status CheckMessageSupport(const JsonObject& message) {
  for (const Field& field :
       {Field{"tool_calls", Nothing::kEmptyList}, Field{"function_call", Nothing::kNull},
        Field{"audio", Nothing::kNull}}) {
    RETURN_IF_ERROR(Check(message, field));
  }
  return absl::OkStatus();
}

}  // namespace minicpmv::gateway
