#include "services/common/credentials.h"

#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/blame.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"
#include "services/common/cluster_token.h"

namespace minicpmv {
namespace {

constexpr size_t kMinToken = 16, kMaxToken = 1024;
constexpr size_t kMaxFile = 1 << 20;
constexpr int kMetadataBytes = 16 << 10;
constexpr int kKeepaliveMs = 20'000, kKeepaliveTimeoutMs = 20'000;
constexpr int kConnectMs = 2'000, kFirstBackoffMs = 100, kLastBackoffMs = 2'000;

absl::StatusOr<std::string> ReadToken(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxFile));
  const absl::string_view token = absl::StripAsciiWhitespace(text);
  if (token.size() < kMinToken || token.size() > kMaxToken ||
      !std::all_of(token.begin(), token.end(), absl::ascii_isgraph)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": a cluster token has ", kMinToken,
                                                   " to ", kMaxToken, " printable characters"));
  }
  return std::string(token);
}

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  if (path.empty()) return std::string();
  ASSIGN_OR_RETURN(std::string text, ReadFile(path, kMaxFile));
  if (!absl::StrContains(text, "-----BEGIN ")) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a PEM file"));
  }
  return text;
}

}  // namespace

absl::StatusOr<Credentials> Credentials::Load(const CredentialOptions& options) {
  if (options.certificate_file.empty() != options.key_file.empty()) {
    return absl::InvalidArgumentError("a certificate and its key come together");
  }
  Credentials credentials;
  if (!options.token_file.empty()) {
    ASSIGN_OR_RETURN(credentials.token_, ReadToken(options.token_file));
  }
  ASSIGN_OR_RETURN(credentials.certificate_, ReadPem(options.certificate_file));
  ASSIGN_OR_RETURN(credentials.key_, ReadPem(options.key_file));
  ASSIGN_OR_RETURN(credentials.ca_, ReadPem(options.ca_file));
  return credentials;
}

bool Credentials::TellStrangers() const {
  return !token_.empty() || (!certificate_.empty() && !ca_.empty());
}

std::shared_ptr<grpc::ServerCredentials> Credentials::ForServer() const {
  if (certificate_.empty()) return PlainServerCredentials(token_);
  grpc::SslServerCredentialsOptions options(
      ca_.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                  : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = ca_;
  options.pem_key_cert_pairs.push_back({key_, certificate_});
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::SslServerCredentials(options);
  if (!token_.empty()) credentials->SetAuthMetadataProcessor(TokenProcessor(token_));
  return credentials;
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> Credentials::Dial(absl::string_view address,
                                                                 const DialOptions& options) const {
  RETURN_IF_ERROR(CheckAddress(address));
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(static_cast<int>(
      std::min<int64_t>(options.max_message_bytes, std::numeric_limits<int>::max())));
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, kMetadataBytes);
  // Notices a machine that is gone, also while nothing is sent.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectMs);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kFirstBackoffMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kLastBackoffMs);
  // What to do about a failure is decided above; and nobody outside steers or sees our calls.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  if (options.own_connection) arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  if (!ca_.empty() || !certificate_.empty()) {
    grpc::SslCredentialsOptions ssl;
    ssl.pem_root_certs = ca_;
    ssl.pem_private_key = key_;
    ssl.pem_cert_chain = certificate_;
    credentials = grpc::SslCredentials(ssl);
  }
  return grpc::experimental::CreateCustomChannelWithInterceptors(
      std::string(address), credentials, arguments, TokenInterceptors(token_));
}

absl::Status CheckAddress(absl::string_view address) {
  const auto wrong = [&] {
    return absl::InvalidArgumentError(absl::StrCat(Quoted(address), " is no address as host:port"));
  };
  const size_t colon = address.rfind(':');
  if (colon == absl::string_view::npos || address.size() > 300) return wrong();
  absl::string_view host = address.substr(0, colon);
  const absl::string_view port = address.substr(colon + 1);
  int number;
  if (port.empty() || !std::all_of(port.begin(), port.end(), absl::ascii_isdigit) ||
      !absl::SimpleAtoi(port, &number) || number < 1 || number > 65535) {
    return wrong();
  }
  bool is_six = false;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
    is_six = true;
  }
  const bool fits = !host.empty() && std::all_of(host.begin(), host.end(), [&](char c) {
    return is_six ? absl::ascii_isxdigit(c) || c == ':' || c == '.'
                  : absl::ascii_isalnum(c) || c == '.' || c == '-' || c == '_';
  });
  return fits ? absl::OkStatus() : wrong();
}

}  // namespace minicpmv
