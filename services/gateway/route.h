#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace minicpmv::gateway {

// What a request is about, by its target alone.
struct Route {
  enum Kind { kChat, kFiles, kModels, kHealth, kVersion };
  Kind kind;
  std::string name;  // of kFiles and kModels: the one that is asked for; "": all

  bool is_open() const { return kind == kHealth || kind == kVersion; }  // to whoever has no key
  // "GET, POST": what may be done with it.
  absl::string_view methods() const;
  // HEAD is as good as GET.
  bool Takes(absl::string_view method) const;
};

// Nothing: there is no such path. What follows a "?" is not looked at.
std::optional<Route> RouteOf(absl::string_view target);

// "request-id" or the like, as a client sent it, as far as it may stand in a header: letters,
// digits and "-_.:", at most 128. One of our own where nothing is left.
std::string RequestIdOf(absl::string_view sent);

}  // namespace minicpmv::gateway
