#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "minicpmv/chat/v1/chat_service.pb.h"

namespace minicpmv::sdk {

class ReplyStream;
class Servers;

// Certificates in PEM.
struct TlsOptions {
  std::string roots;             // who may vouch for a server; "": whom this machine trusts
  std::string certificate, key;  // our own, where servers ask for one; "": none
  std::string name;              // what a server's certificate has to say; "": its address
};

struct ClientOptions {
  // Routers, "host:port". All of them see the same workers: any one can answer, or go on with what
  // another began. The first that answers is used until it fails.
  std::vector<std::string> servers;

  std::string token;              // sent as "authorization: Bearer TOKEN"; "": none
  std::string cache_scope;        // whose cached media and prefixes are used; at most 64 bytes
  std::optional<TlsOptions> tls;  // unset: plain text

  // How long a call goes on trying without any progress. Progress is an answer, and for a stream
  // every event that brings something new.
  absl::Duration patience = absl::Seconds(15);
  // Between two attempts: doubled each time from `pause` to `longest_pause`. Other servers than
  // the one that failed are tried without a pause first.
  absl::Duration pause = absl::Milliseconds(100), longest_pause = absl::Seconds(2);
};

// INVALID_ARGUMENT: no server, an empty address, half a certificate, a scope that is too long.
absl::Status CheckOptions(const ClientOptions& options);

struct CallOptions {
  // From the call to its end, all attempts together. DEADLINE_EXCEEDED.
  absl::Duration timeout = absl::InfiniteDuration();
  // What the call is part of: W3C Trace Context, handed on by every process that works for it. "":
  // nothing is sent, and the server begins a trace. Printable ASCII; anything else is not sent.
  std::string traceparent = {}, tracestate = {};
};

// A fleet's public face. Thread-safe. What it hands out has to end before it does.
//
// What is tried again by itself, within the patience: UNAVAILABLE and ABORTED, on the next server;
// RESOURCE_EXHAUSTED after the delay that its RetryInfo asks for. Other errors are returned as they
// come, with google.rpc details as payloads under their type URLs.
class Client {
 public:
  // Connects at first use. Errors of CheckOptions.
  static absl::StatusOr<std::unique_ptr<Client>> Create(ClientOptions options);
  ~Client();

  // The reply as it is made. Inline media above 1 MiB in sum are uploaded first. A stream that
  // breaks is resumed, here or on another server, without a letter lost or doubled.
  std::unique_ptr<ReplyStream> StreamReply(chat::v1::StreamReplyRequest request,
                                           const CallOptions& options = {});
  // The same, handing each event to `sink`. A sink that fails ends the reply with its status.
  absl::Status StreamReply(
      chat::v1::StreamReplyRequest request,
      absl::FunctionRef<absl::Status(const chat::v1::StreamReplyResponse&)> sink,
      const CallOptions& options = {});

  // The whole reply at once; it is streamed underneath, so that it outlives a server as well.
  absl::StatusOr<chat::v1::GenerateReplyResponse> GenerateReply(
      chat::v1::GenerateReplyRequest request, const CallOptions& options = {});

  // Brings a picture or video to the server that is in use, for requests there: another server
  // knows no such handle. For requests that should outlive a server, leave media inline.
  absl::StatusOr<chat::v1::UploadedMedia> UploadMedia(absl::string_view bytes,
                                                      const CallOptions& options = {});

  absl::StatusOr<chat::v1::ListModelsResponse> ListModels(const CallOptions& options = {});

 private:
  explicit Client(ClientOptions options);

  std::unique_ptr<Servers> servers_;
};

}  // namespace minicpmv::sdk
