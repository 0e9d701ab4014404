#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct sockaddr;

namespace minicpmv::gateway {

// A picture's address in the network, as far as it may be fetched.
struct RemoteAddress {
  std::string url;              // in its one usual form
  bool may_be_private = false;  // the host may be in a network that is not everybody's
};

// The hosts that pictures may be fetched from. Immutable; thread-safe.
//
// An entry is a name, "*." and the end of names, or an address; with a port behind it that port is
// meant, else that of http and https. Only what is named by its address or with its port may be in
// a private network: a name alone says nothing about where it leads.
class RemoteHosts {
 public:
  // None.
  RemoteHosts() = default;
  // INVALID_ARGUMENT names the entry.
  static absl::StatusOr<RemoteHosts> Parse(const std::vector<std::string>& entries);

  bool empty() const { return entries_.empty(); }

  // Whether what stands there may be fetched. INVALID_ARGUMENT: it is no address of http or https,
  // has a user's name in it, or its host is not among these; the words go on after the address's
  // name.
  absl::StatusOr<RemoteAddress> Check(absl::string_view url) const;

 private:
  struct Entry {
    std::string host;  // lower case; of a pattern what follows the "*"
    bool is_pattern = false, is_address = false;
    std::string port;  // "": the scheme's own
  };
  std::vector<Entry> entries_;
};

// Whether it is in everybody's network: not our own machine, a private network, a link, or one of
// the ranges that are kept for other purposes.
bool IsPublic(const sockaddr& address);

}  // namespace minicpmv::gateway
