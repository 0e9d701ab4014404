#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace minicpmv {

// An address to listen on. Where port 0 was asked for a port has been picked and stays ours until
// this ends, so that a process can tell others its address before it answers there.
class ListenAddress {
 public:
  // INVALID_ARGUMENT: not "host:port". UNAVAILABLE: no such address here, or no port is free.
  static absl::StatusOr<ListenAddress> Reserve(absl::string_view listen);
  ~ListenAddress();
  ListenAddress(ListenAddress&& other) noexcept;
  ListenAddress& operator=(ListenAddress&& other) noexcept;

  // "127.0.0.1:40123": with the port that was picked.
  const std::string& text() const { return text_; }
  // Reached from this machine only.
  bool is_loopback() const { return is_loopback_; }
  // Every interface ("0.0.0.0", "[::]"): no address that others could be told.
  bool is_wildcard() const { return is_wildcard_; }
  bool was_picked() const { return socket_ >= 0; }

 private:
  ListenAddress() = default;
  std::string text_;
  bool is_loopback_ = false, is_wildcard_ = false;
  int socket_ = -1;  // bound, not listening; -1 where the port was named
};

// Where a process of this machine reaches who listens at `address`, a ListenAddress's text: all
// interfaces together are no address to connect to.
std::string DialableOf(absl::string_view address);

}  // namespace minicpmv
