// What the router costs: it runs in a process of its own, with workers that compute nothing and one
// client, so that its processor time can be read apart from theirs.
//
//   bench_router [--streams=200] [--tokens=100] [--step-ms=50] [--requests=500]

#include <grpcpp/grpcpp.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "minicpmv/chat/v1/chat_service.grpc.pb.h"
#include "services/router/router_server.h"
#include "tools/bench_router/idle_worker.h"
#include "tools/sdk/cpp/client.h"

namespace minicpmv {
namespace {

using chat::v1::StreamReplyRequest;
using chat::v1::StreamReplyResponse;

struct Options {
  std::string model = MINICPMV_NANO_FOLDER;
  int streams = 200, tokens = 100, requests = 500;
  double step_ms = 50;
};

// The router's process: tells its address and runs until the pipe is closed.
[[noreturn]] void RunRouter(const Options& options, int out, int in) {
  const auto model = router::RouterModel::Load(options.model, "nano");
  Metrics metrics;
  router::RouterServerOptions server_options;
  server_options.router.queue_limit = server_options.router.tenant_limit = 4096;
  {
    const auto server = router::RouterServer::Start(*ListenAddress::Reserve("127.0.0.1:0"),
                                                    server_options, **model, metrics);
    CHECK(server.ok()) << server.status();
    const std::string line = absl::StrCat((*server)->address(), "\n");
    CHECK_EQ(write(out, line.data(), line.size()), static_cast<ssize_t>(line.size()));
    char byte;
    while (read(in, &byte, 1) > 0) {
    }
  }
  std::_Exit(0);
}

// A child process with the router.
class RouterProcess {
 public:
  explicit RouterProcess(const Options& options) {
    int to_child[2], to_parent[2];
    CHECK_EQ(pipe(to_child), 0);
    CHECK_EQ(pipe(to_parent), 0);
    pid_ = fork();
    CHECK(pid_ >= 0);
    if (pid_ == 0) {
      close(to_child[1]);
      close(to_parent[0]);
      RunRouter(options, to_parent[1], to_child[0]);
    }
    close(to_child[0]);
    close(to_parent[1]);
    in_ = to_child[1];
    for (char byte; read(to_parent[0], &byte, 1) == 1 && byte != '\n';) address_ += byte;
    CHECK_EQ(clock_getcpuclockid(pid_, &clock_), 0);
  }
  ~RouterProcess() {
    close(in_);
    waitpid(pid_, nullptr, 0);
  }

  const std::string& address() const { return address_; }
  // Processor time of all its threads so far.
  absl::Duration Spent() const {
    timespec time;
    CHECK_EQ(clock_gettime(clock_, &time), 0);
    return absl::DurationFromTimespec(time);
  }

 private:
  pid_t pid_;
  int in_;
  clockid_t clock_;
  std::string address_;
};

StreamReplyRequest Question(int tokens) {
  StreamReplyRequest request;
  chat::v1::Message& message = *request.mutable_conversation()->add_messages();
  message.set_role(chat::v1::ROLE_USER);
  message.add_parts()->set_text("What is in the image?");
  request.mutable_options()->set_max_new_tokens(static_cast<uint32_t>(tokens));
  request.mutable_options()->mutable_sampling()->set_greedy(true);
  return request;
}

double Share(std::vector<double>& values, double share) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(share * values.size()))];
}

double Milliseconds(absl::Duration duration) { return absl::ToDoubleMilliseconds(duration); }

// One request; the time to its first token.
absl::Duration Ask(sdk::Client& client, const StreamReplyRequest& request) {
  const absl::Time begin = absl::Now();
  absl::Duration first;
  const absl::Status status = client.StreamReply(request, [&](const StreamReplyResponse& event) {
    if (first == absl::ZeroDuration() && event.text().tokens_size() > 0) {
      first = absl::Now() - begin;
    }
    return absl::OkStatus();
  });
  CHECK(status.ok()) << status;
  return first;
}

// The calls that a router makes for a first token, made by us without one.
absl::Duration AskWorker(decode::v1::DecodeService::Stub& decode,
                         prefill::v1::PrefillService::Stub& prefill) {
  const absl::Time begin = absl::Now();
  grpc::ClientContext decode_call, prefill_call;
  decode::v1::DecodeSequenceRequest request;
  for (uint32_t i = 0; i < 24; ++i) request.mutable_prompt()->add_tokens(i);
  request.mutable_limits()->set_max_new_tokens(1);
  const auto tokens = decode.DecodeSequence(&decode_call, request);
  decode::v1::DecodeSequenceResponse response;
  CHECK(tokens->Read(&response));
  prefill::v1::PrefillPromptRequest prompt;
  *prompt.mutable_prompt() = request.prompt();
  *prompt.mutable_destination()->mutable_landing() = response.landing();
  const auto progress = prefill.PrefillPrompt(&prefill_call, prompt);
  CHECK(tokens->Read(&response));
  const absl::Duration first = absl::Now() - begin;
  prefill::v1::PrefillPromptResponse done;
  while (progress->Read(&done)) {
  }
  progress->Finish();
  while (tokens->Read(&response)) {
  }
  tokens->Finish();
  return first;
}

void MeasureFirstToken(const Options& options, sdk::Client& client, const std::string& worker) {
  const auto channel = grpc::CreateChannel(worker, grpc::InsecureChannelCredentials());
  const auto decode = decode::v1::DecodeService::NewStub(channel);
  const auto prefill = prefill::v1::PrefillService::NewStub(channel);
  std::vector<double> with, without;
  // Turn by turn: what else the machine does meets both alike.
  for (int i = 0; i < options.requests; ++i) {
    with.push_back(Milliseconds(Ask(client, Question(1))));
    without.push_back(Milliseconds(AskWorker(*decode, *prefill)));
  }
  for (const double share : {0.5, 0.9, 0.99, 1.0}) {
    const double through = Share(with, share), direct = Share(without, share);
    std::printf("first token p%-4.0f          %8.3f ms; worker alone %.3f, the router adds %.3f\n",
                100 * share, through, direct, through - direct);
  }
}

void MeasureStreams(const Options& options, const RouterProcess& router) {
  const auto channel = grpc::CreateChannel(router.address(), grpc::InsecureChannelCredentials());
  const auto stub = chat::v1::ChatService::NewStub(channel);
  const absl::Duration before = router.Spent();
  const absl::Time begin = absl::Now();
  std::atomic<int64_t> tokens = 0, messages = 0;
  std::atomic<int> left = options.streams;
  std::promise<void> done;
  for (int i = 0; i < options.streams; ++i) {
    const StreamReplyRequest request = Question(options.tokens);
    ClientStream<StreamReplyResponse>::Start(
        [&](auto* context, auto* reactor) {
          stub->async()->StreamReply(context, &request, reactor);
        },
        {[&](const StreamReplyResponse& event) {
           tokens += event.text().tokens_size();
           ++messages;
         },
         [&](const absl::Status& status) {
           CHECK(status.ok()) << status;
           if (--left == 0) done.set_value();
         }});
  }
  done.get_future().wait();
  const absl::Duration spent = router.Spent() - before;
  std::printf(
      "%d streams              %8.1f us of processor time a token (%lld tokens in %lld "
      "messages, %.0f tokens a second)\n",
      options.streams, absl::ToDoubleMicroseconds(spent) / static_cast<double>(tokens),
      static_cast<long long>(tokens), static_cast<long long>(messages),
      static_cast<double>(tokens) / absl::ToDoubleSeconds(absl::Now() - begin));
}

// Processor time of the router for each of `count` requests.
template <typename Make>
absl::Duration SpentOnEach(const RouterProcess& router, sdk::Client& client, int count,
                           const Make& make) {
  const absl::Duration before = router.Spent();
  for (int i = 0; i < count; ++i) Ask(client, make(i));
  return (router.Spent() - before) / count;
}

void MeasureMedia(const Options& options, const RouterProcess& router, sdk::Client& client) {
  const auto uploaded = client.UploadMedia(std::string(300'000, 'p'));
  CHECK(uploaded.ok()) << uploaded.status();
  const auto by_handle = [&](int) {
    StreamReplyRequest request = Question(1);
    request.mutable_conversation()->mutable_messages(0)->add_parts()->mutable_media()->set_handle(
        uploaded->handle());
    return request;
  };
  const absl::Duration plain =
      SpentOnEach(router, client, options.requests, [](int) { return Question(1); });
  const absl::Duration digest = SpentOnEach(router, client, options.requests, by_handle);
  std::printf("a request                %8.3f ms of processor time\n", Milliseconds(plain));
  std::printf("with media by digest     %8.3f ms of processor time\n", Milliseconds(digest));

  constexpr size_t kBytes = 1'000'000;
  const int count = std::max(1, options.requests / 10);
  const absl::Duration inlined = SpentOnEach(router, client, count, [&](int i) {
    StreamReplyRequest request = Question(1);
    std::string bytes(kBytes, 'x');
    bytes.replace(0, 16, absl::StrCat(absl::Dec(i, absl::kZeroPad16)));
    request.mutable_conversation()->mutable_messages(0)->add_parts()->mutable_media()->set_inline_(
        std::move(bytes));
    return request;
  });
  std::printf("inline, each MB          %8.3f ms of processor time\n",
              Milliseconds(inlined - digest) * 1e6 / kBytes);
}

void Run(const Options& options) {
  // Before anything here has a thread.
  const RouterProcess router(options);
  const auto model = router::RouterModel::Load(options.model, "nano");
  CHECK(model.ok()) << model.status();
  std::string fingerprint = (*model)->fingerprint();
  if (fingerprint.empty()) fingerprint.assign(32, 'm');
  IdleWorker worker(fingerprint, absl::Milliseconds(options.step_ms));
  worker.Join(router.address());
  sdk::ClientOptions client_options;
  client_options.servers = {router.address()};
  const auto client = sdk::Client::Create(client_options);
  for (int i = 0; i < 20; ++i) Ask(**client, Question(1));  // connections are made
  MeasureFirstToken(options, **client, worker.address());
  MeasureStreams(options, router);
  MeasureMedia(options, router, **client);
}

}  // namespace
}  // namespace minicpmv

int main(int argc, char** argv) {
  minicpmv::Options options;
  CLI::App app("Measures what the router costs");
  app.add_option("--model", options.model, "Whose tokenizer is used");
  app.add_option("--streams", options.streams, "Replies at once")->check(CLI::Range(1, 10'000));
  app.add_option("--tokens", options.tokens, "Of each of them")->check(CLI::Range(1, 1500));
  app.add_option("--step-ms", options.step_ms, "Between two tokens of a reply")
      ->check(CLI::Range(0.1, 10'000.0));
  app.add_option("--requests", options.requests, "One after the other")
      ->check(CLI::Range(10, 1'000'000));
  CLI11_PARSE(app, argc, argv);
  minicpmv::Run(options);
  return 0;
}
