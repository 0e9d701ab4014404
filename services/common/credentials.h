#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace minicpmv {

// By file. All may be empty: then whoever can connect may call.
struct CredentialOptions {
  // The cluster token: what the file holds, without white space around it. 16 to 1024 printable
  // characters.
  std::string token_file;
  // TLS: our certificate chain and its key, PEM. Both or none.
  std::string certificate_file, key_file;
  // TLS: who signed the other side's certificate, PEM. With certificate and key both sides show
  // one (mTLS); alone it is what a client needs that shows none.
  std::string ca_file;
};

// How a channel is used.
struct DialOptions {
  int64_t max_message_bytes = 4 << 20;  // received at once
  // A connection of its own, which no other channel to that address shares: for bulk.
  bool own_connection = false;
};

// Who may call this process, and how it calls others: one place for both. The token travels as
// metadata of every call and is checked before any service sees the call, in constant time:
// UNAUTHENTICATED. Cheap to copy; thread-safe.
class Credentials {
 public:
  // None: for what listens on this machine only.
  Credentials() = default;
  // NOT_FOUND, INVALID_ARGUMENT: names the file.
  static absl::StatusOr<Credentials> Load(const CredentialOptions& options);

  // A stranger is told from a friend: by token or by certificate.
  bool TellStrangers() const;

  // What the files hold, for a library that makes channels of its own; "" where there is none.
  const std::string& token() const { return token_; }
  const std::string& certificate() const { return certificate_; }
  const std::string& key() const { return key_; }
  const std::string& ca() const { return ca_; }

  std::shared_ptr<grpc::ServerCredentials> ForServer() const;
  // A channel to "host:port"; it connects at the first call. INVALID_ARGUMENT: not an address.
  // Address may come from a peer: other schemes than host and port are refused.
  absl::StatusOr<std::shared_ptr<grpc::Channel>> Dial(absl::string_view address,
                                                      const DialOptions& options = {}) const;

 private:
  std::string token_;
  std::string certificate_, key_, ca_;
};

// INVALID_ARGUMENT: not "host:port", "1.2.3.4:port" or "[::1]:port" with a port in [1, 65535].
absl::Status CheckAddress(absl::string_view address);

}  // namespace minicpmv
