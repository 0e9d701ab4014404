#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace minicpmv::gateway {

// What a request is about, by its target alone.
struct Route {
  enum Kind { kChat, kModels, kHealth, kVersion };
  Kind kind;
  std::string model;  // of kModels: the one that is asked for; "": all

  bool is_open() const { return kind == kHealth || kind == kVersion; }  // to whoever has no key
  // The one method; where it is GET, HEAD is as good.
  absl::string_view method() const { return kind == kChat ? "POST" : "GET"; }
};

// Nothing: there is no such path. What follows a "?" is not looked at.
std::optional<Route> RouteOf(absl::string_view target);

// "request-id" or the like, as a client sent it, as far as it may stand in a header: letters,
// digits and "-_.:", at most 128. One of our own where nothing is left.
std::string RequestIdOf(absl::string_view sent);

}  // namespace minicpmv::gateway
