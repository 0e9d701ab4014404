// Bytes become an HTTP request, its body a conversation: what is refused is refused in JSON, and
// what is taken holds together.
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/base/check.h"
#include "services/gateway/chat_request.h"
#include "services/gateway/http_error.h"
#include "services/gateway/route.h"

namespace minicpmv::gateway {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

constexpr uint32_t kHeaderBytes = 16 << 10;
constexpr uint64_t kBodyBytes = 1 << 20;

absl::string_view ViewOf(boost::beast::string_view text) { return {text.data(), text.size()}; }

void Read(absl::string_view body) {
  static const RemoteHosts& hosts = *new RemoteHosts(*RemoteHosts::Parse({"*.example.org"}));
  const absl::StatusOr<ChatRequest> request = ReadChatRequest(body, hosts);
  if (!request.ok()) {
    const HttpError error = HttpErrorOf(request.status());
    CHECK_EQ(error.status, 400) << request.status().message();
    CHECK(nlohmann::json::accept(error.Body())) << error.Body();
    return;
  }
  std::string bytes;
  CHECK(request->reply.SerializeToString(&bytes));  // text is UTF-8
  CHECK(request->stream || !request->include_usage);
}

void Run(const uint8_t* data, size_t size) {
  http::request_parser<http::string_body> parser;
  parser.header_limit(kHeaderBytes);
  parser.body_limit(kBodyBytes);
  boost::beast::error_code error;
  size_t used = 0;
  while (!parser.is_done() && used < size) {
    const size_t now = parser.put(asio::buffer(data + used, size - used), error);
    if (error || now == 0) break;
    used += now;
  }
  if (!parser.is_header_done()) return;
  const auto& request = parser.get();
  RouteOf(ViewOf(request.target()));
  const std::string id = RequestIdOf(ViewOf(request["X-Request-Id"]));
  CHECK(!id.empty() && id.size() <= 128);
  if (parser.is_done()) Read(request.body());
}

}  // namespace
}  // namespace minicpmv::gateway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  minicpmv::gateway::Run(data, size);
  return 0;
}
