#include "services/gateway/http_error.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "runtime/base/json_file.h"
#include "runtime/base/quoted.h"
#include "services/common/status_proto.h"

namespace minicpmv::gateway {
namespace {

constexpr char kInvalid[] = "invalid_request_error";
constexpr char kServer[] = "server_error";

// Whole seconds, and never at once.
int64_t SecondsOf(absl::Duration delay) {
  return std::max<int64_t>(1, absl::ToInt64Seconds(absl::Ceil(delay, absl::Seconds(1))));
}

// The router's names of fields, as clients here know them.
std::string ParamOf(const absl::Status& status) {
  if (std::string written = JsonObject::FieldOf(status); !written.empty()) return written;
  std::string field = FieldOf(status);
  absl::string_view rest = field;
  if (absl::ConsumePrefix(&rest, "conversation.")) {
    return absl::StrReplaceAll(rest, {{".parts", ".content"}});
  }
  if (!absl::ConsumePrefix(&rest, "options.")) return field;
  if (rest == "max_new_tokens") return "max_completion_tokens";
  if (rest == "min_new_tokens") return "min_tokens";
  if (rest == "media.max_slices") return "mm_processor_kwargs.max_slice_nums";
  absl::ConsumePrefix(&rest, "sampling.");
  return std::string(rest);
}

}  // namespace

std::string HttpError::Body() const {
  using Json = nlohmann::ordered_json;
  const auto text_or_null = [](const std::string& text) {
    return text.empty() ? Json(nullptr) : Json(text);
  };
  const Json body = {{"error",
                      {{"message", message},
                       {"type", type},
                       {"param", text_or_null(param)},
                       {"code", text_or_null(code)}}}};
  return body.dump(-1, ' ', false, Json::error_handler_t::replace);
}

HttpError HttpErrorOf(const absl::Status& status) {
  HttpError error;
  error.message = std::string(status.message());
  error.param = ParamOf(status);
  const auto become = [&](int http, absl::string_view type, absl::string_view code) {
    error.status = http;
    error.type = std::string(type);
    error.code = std::string(code);
  };
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      become(400, kInvalid, "");
      break;
    case absl::StatusCode::kUnimplemented:
      become(400, kInvalid, "unsupported_parameter");
      break;
    case absl::StatusCode::kOutOfRange:
      become(400, kInvalid, "context_length_exceeded");
      break;
    case absl::StatusCode::kNotFound:
      if (error.param.empty()) {
        become(404, kInvalid, "model_not_found");
        error.param = "model";
      } else {
        become(404, kInvalid, "media_not_found");
      }
      break;
    case absl::StatusCode::kResourceExhausted:
      become(429, "rate_limit_exceeded", "rate_limit_exceeded");
      error.retry_after = SecondsOf(RetryAfterOf(status).value_or(absl::Seconds(1)));
      break;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kCancelled:  // not by the client: a router that shuts down
    case absl::StatusCode::kFailedPrecondition:
      become(503, "overloaded", "overloaded");
      error.retry_after = SecondsOf(RetryAfterOf(status).value_or(absl::Seconds(1)));
      break;
    case absl::StatusCode::kDeadlineExceeded:
      become(504, kServer, "timeout");
      break;
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      // The router's business with us, not the client's with us.
      become(500, kServer, "internal_error");
      error.message = "the router does not take calls of this gateway";
      break;
    default:
      become(500, kServer, "internal_error");
  }
  return error;
}

HttpError BadRequest(absl::string_view message) {
  return {400, kInvalid, "", std::string(message), "", {}};
}

HttpError WrongKey() { return {401, kInvalid, "invalid_api_key", "no or a wrong API key", "", {}}; }

HttpError NoSuchPath(absl::string_view target) {
  return {404, kInvalid, "not_found", absl::StrCat("there is no ", Quoted(target)), "", {}};
}

HttpError NoSuchModel(absl::string_view name) {
  return {404,     kInvalid, "model_not_found", absl::StrCat("there is no model ", Quoted(name)),
          "model", {}};
}

HttpError WrongMethod(absl::string_view allowed) {
  return {405, kInvalid, "method_not_allowed", absl::StrCat("only ", allowed, " is answered here"),
          "",  {}};
}

HttpError BodyTooLarge(int64_t limit) {
  return {413,
          kInvalid,
          "request_too_large",
          absl::StrCat("the body has more than the ", limit, " bytes that one may have"),
          "",
          {}};
}

HttpError WrongMediaType(absl::string_view right) {
  return {415,
          kInvalid,
          "unsupported_media_type",
          absl::StrCat("the body has to be ", right, ", without a content encoding"),
          "",
          {}};
}

HttpError NoSpace(absl::string_view message) {
  return {507, "overloaded", "insufficient_storage", std::string(message), "", 1};
}

HttpError NoSuchFile(absl::string_view id) {
  return {404, kInvalid, "file_not_found", absl::StrCat("there is no file ", Quoted(id)), "id", {}};
}

HttpError HeaderTooLarge(int64_t limit) {
  return {
      431, kInvalid, "header_too_large", absl::StrCat("the header has more than ", limit, " bytes"),
      "",  {}};
}

HttpError Overloaded(absl::string_view message) {
  return {503, "overloaded", "overloaded", std::string(message), "", 1};
}

}  // namespace minicpmv::gateway
