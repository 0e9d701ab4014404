#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace minicpmv::gateway {

// An error as OpenAI's clients read it.
struct HttpError {
  int status = 500;
  std::string type, code;  // code may be "": none
  std::string message;
  std::string param;                   // the field that is wrong; "": none
  std::optional<int64_t> retry_after;  // seconds

  // {"error": {"message", "type", "param", "code"}}.
  std::string Body() const;
};

// Of what the request's reader or the router said.
HttpError HttpErrorOf(const absl::Status& status);

// What is refused before anybody reads the body.
HttpError BadRequest(absl::string_view message);
HttpError WrongKey();
HttpError NoSuchPath(absl::string_view target);
HttpError NoSuchModel(absl::string_view name);
HttpError WrongMethod(absl::string_view allowed);
HttpError BodyTooLarge(int64_t limit);
// What it has to be.
HttpError WrongMediaType(absl::string_view right);
HttpError HeaderTooLarge(int64_t limit);
HttpError Overloaded(absl::string_view message);
// Of files and bodies, on the disk.
HttpError NoSpace(absl::string_view message);
HttpError NoSuchFile(absl::string_view id);

}  // namespace minicpmv::gateway
