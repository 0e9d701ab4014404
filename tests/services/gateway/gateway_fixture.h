#pragma once

#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/gateway/gateway.h"
#include "tests/services/common/raw_socket.h"
#include "tests/tools/sdk/cpp/fake_router.h"

namespace minicpmv::gateway {

using Json = nlohmann::json;
using Event = chat::v1::StreamReplyResponse;

inline constexpr char kHello[] =
    R"({"model": "nano", "messages": [{"role": "user", "content": "Hello"}]})";
inline constexpr char kHelloStream[] =
    R"({"model": "nano", "stream": true, "messages": [{"role": "user", "content": "Hello"}]})";

inline Event Start(uint64_t sequence) {
  Event event;
  event.set_sequence(sequence);
  event.mutable_start()->set_request_id("r1");
  event.mutable_start()->set_model("nano");
  event.mutable_start()->set_seed(7);
  return event;
}
inline Event Text(uint64_t sequence, const std::string& text, uint32_t token) {
  Event event;
  event.set_sequence(sequence);
  event.mutable_text()->set_text(text);
  event.mutable_text()->add_tokens(token);
  return event;
}
inline Event Ending(uint64_t sequence) {
  Event event;
  event.set_sequence(sequence);
  event.mutable_ending()->set_finish_reason(chat::v1::FINISH_REASON_STOP);
  event.mutable_ending()->mutable_usage()->set_prompt_tokens(5);
  event.mutable_ending()->mutable_usage()->set_completion_tokens(2);
  event.mutable_ending()->mutable_usage()->set_cached_tokens(3);
  return event;
}
inline FakeRouter::Script Says(std::vector<Event> events, grpc::Status status = grpc::Status::OK) {
  return
      [=](const chat::v1::StreamReplyRequest&, FakeRouter::Writer& writer, grpc::ServerContext&) {
        for (const Event& event : events) writer.Write(event);
        return status;
      };
}
inline FakeRouter::Script SaysAll() {
  return Says({Start(1), Text(2, "Hel", 1), Text(3, "lo", 2), Ending(4)});
}

// One answer, its chunks put together.
struct Answer {
  int status = 0;
  std::string header, body;

  Json json() const { return Json::parse(body, nullptr, /*allow_exceptions=*/false); }
  std::vector<std::string> events() const {
    std::vector<std::string> events;
    for (const absl::string_view part : absl::StrSplit(body, "\n\n", absl::SkipEmpty())) {
      events.emplace_back(part.substr(6));  // "data: "
    }
    return events;
  }
};

inline Answer Parse(const std::string& bytes) {
  Answer answer;
  const size_t end = bytes.find("\r\n\r\n");
  if (end == std::string::npos) return answer;
  answer.header = bytes.substr(0, end);
  answer.status = std::atoi(bytes.c_str() + 9);
  answer.body = bytes.substr(end + 4);
  if (!absl::StrContains(answer.header, "chunked")) return answer;
  std::string joined;
  for (size_t at = 0; at < answer.body.size();) {
    const size_t length = std::strtoul(answer.body.c_str() + at, nullptr, 16);
    at = answer.body.find("\r\n", at) + 2;
    joined += answer.body.substr(at, length);
    at += length + 2;
    if (length == 0) break;
  }
  answer.body = joined;
  return answer;
}

class GatewayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.routers.servers = {router_.address()};
    options_.routers.pause = absl::Milliseconds(1);
    options_.version = "1.2.3";
  }
  void TearDown() override {
    gateway_.reset();
    if (metrics_) {
      EXPECT_THAT(metrics_->Text(), ::testing::HasSubstr("minicpmv_http_body_bytes 0"));
      EXPECT_THAT(metrics_->Text(), ::testing::HasSubstr("minicpmv_http_disk_bytes 0"));
      EXPECT_THAT(metrics_->Text(), ::testing::HasSubstr("minicpmv_http_requests_in_flight 0"));
    }
  }
  Gateway& gateway() {
    if (!gateway_) {
      metrics_ = std::make_unique<Metrics>();
      const absl::StatusOr<ListenAddress> listen = ListenAddress::Reserve("127.0.0.1:0");
      gateway_ = *Gateway::Start(*listen, options_, *metrics_);
    }
    return *gateway_;
  }
  Answer Ask(const std::string& bytes) {
    RawSocket socket(gateway().address());
    socket.Send(bytes);
    return Parse(socket.Receive());
  }
  static std::string Post(const std::string& body, const std::string& headers = "") {
    return absl::StrCat(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: "
        "application/json\r\nContent-Length: ",
        body.size(), "\r\n", headers, "\r\n", body);
  }
  static std::string LastPost(const std::string& body, const std::string& headers = "") {
    return Post(body, absl::StrCat("Connection: close\r\n", headers));
  }
  static std::string Get(const std::string& target, const std::string& headers = "") {
    return absl::StrCat("GET ", target, " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", headers,
                        "\r\n");
  }
  Answer Chat(const std::string& body) { return Ask(LastPost(body)); }

  FakeRouter router_;
  GatewayOptions options_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Gateway> gateway_;
};

}  // namespace minicpmv::gateway
