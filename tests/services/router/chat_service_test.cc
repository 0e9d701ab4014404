#include "services/router/chat_service.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <future>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "services/common/status_proto.h"
#include "services/common/trace_metadata.h"
#include "services/router/router_server.h"
#include "tests/services/common/eventually.h"
#include "tests/services/router/fake_workers.h"
#include "tests/services/router/fleet_member.h"

namespace minicpmv::router {
namespace {

using ::testing::ElementsAreArray;

constexpr std::chrono::seconds kPatience(60);
constexpr char kText[] = "There are two diamonds in the image, a red and a blue one.";

// A router that listens, with one worker of all roles that does what the test says.
class ChatServiceTest : public ::testing::Test {
 protected:
  ChatServiceTest() {
    model_ = *RouterModel::Load(std::string(MINICPMV_SOURCE_DIR) + "/tools/nano/model", "nano");
    const std::vector<int32_t> ids = *model_->tokenizer().Encode(kText, Tags::kText);
    tokens_.assign(ids.begin(), ids.end());
    RouterServerOptions options;
    options.router.stall_after = absl::Minutes(10);  // the worker says how it is but once
    options.router.settle = absl::Seconds(60);
    router_ =
        *RouterServer::Start(*ListenAddress::Reserve("127.0.0.1:0"), options, *model_, metrics_);
    channel_ = grpc::CreateChannel(router_->address(), grpc::InsecureChannelCredentials());
    stub_ = chat::v1::ChatService::NewStub(channel_);
    fleet_stub_ = control::v1::FleetService::NewStub(channel_);

    worker_.put = [](grpc::ServerContext&, auto& stream) {
      vision::v1::PutMediaRequest request;
      stream.Read(&request);
      vision::v1::PutMediaResponse response;
      response.set_decision(vision::v1::PutMediaResponse::DECISION_SEND);
      stream.Write(response);
      while (stream.Read(&request)) {
      }
      common::v1::MediaInfo& info = *response.mutable_info();
      info.set_kind(common::v1::MEDIA_KIND_IMAGE);
      info.set_format("png");
      info.set_width(64);
      info.set_height(48);
      info.set_stored_width(64);
      info.set_stored_height(48);
      stream.Write(response);
      return grpc::Status::OK;
    };
    worker_.encode = [this](grpc::ServerContext&, const auto&, auto& writer) {
      vision::v1::EncodeMediaResponse response;
      *response.mutable_landing() = Landing();
      writer.Write(response);
      response.mutable_done();
      writer.Write(response);
      return grpc::Status::OK;
    };
    worker_.prefill = [this](grpc::ServerContext&, const auto& request, auto& writer) {
      prefill::v1::PrefillPromptResponse response;
      *response.mutable_landing() = Landing();
      writer.Write(response);
      response.mutable_done();
      writer.Write(response);
      const std::lock_guard<std::mutex> lock(mutex_);
      prompts_.insert(request.destination().landing().slot());
      landed_.notify_all();
      return grpc::Status::OK;
    };
    worker_.decode = [this](grpc::ServerContext& context, const auto& request, auto& writer) {
      const auto& prompt = request.prompt();
      const auto had = static_cast<size_t>(prompt.tokens_size()) - prompt.prompt_tokens();
      decode::v1::DecodeSequenceResponse response;
      *response.mutable_landing() = Landing();
      writer.Write(response);
      if (!AwaitPrompt(context, response.landing().slot())) return grpc::Status::CANCELLED;
      for (size_t i = had; i < tokens_.size(); ++i) {
        response.mutable_tokens()->clear_tokens();
        response.mutable_tokens()->add_tokens(tokens_[i]);
        response.mutable_tokens()->set_first_index(static_cast<uint32_t>(i));
        writer.Write(response);
      }
      response.mutable_ending()->set_reason(decode::v1::Ending::REASON_LENGTH);
      response.mutable_ending()->set_new_tokens(static_cast<uint32_t>(tokens_.size()));
      writer.Write(response);
      return grpc::Status::OK;
    };
  }

  // The worker joins the fleet, and is ready.
  void Join() {
    control::v1::WorkerHello hello = HelloOf("w", 'i');
    hello.set_address(worker_.name().address);
    hello.add_roles(common::v1::ROLE_VISION);
    hello.add_roles(common::v1::ROLE_PREFILL);
    hello.mutable_capacity()->set_pages(4096);
    hello.mutable_capacity()->set_max_sequence_tokens(2048);
    if (!model_->fingerprint().empty()) {
      hello.mutable_model()->set_model_fingerprint(model_->fingerprint());
    }
    member_ = std::make_unique<FleetMember>(*fleet_stub_, hello);
    ASSERT_TRUE(member_->Read().has_welcome());
    member_->Report(control::v1::WORKER_STATE_READY, 4096);
  }

  // Sequences get a landing and nothing more.
  void HangDecode() {
    worker_.decode = [this](grpc::ServerContext& context, const auto&, auto& writer) {
      decode::v1::DecodeSequenceResponse response;
      *response.mutable_landing() = Landing();
      writer.Write(response);
      is_open_.set_value();
      while (!context.IsCancelled()) std::this_thread::yield();
      was_cancelled_.set_value();
      return grpc::Status::CANCELLED;
    };
  }

  bool AwaitPrompt(const grpc::ServerContext& context, uint64_t slot) {
    std::unique_lock<std::mutex> lock(mutex_);
    while (prompts_.count(slot) == 0) {
      if (context.IsCancelled()) return false;
      landed_.wait_for(lock, std::chrono::milliseconds(10));
    }
    return true;
  }

  common::v1::Landing Landing() {
    common::v1::Landing landing;
    landing.set_incarnation(worker_.name().incarnation);
    landing.set_slot(++slots_);
    return landing;
  }

  static chat::v1::StreamReplyRequest Question() {
    chat::v1::StreamReplyRequest request;
    chat::v1::Message& message = *request.mutable_conversation()->add_messages();
    message.set_role(chat::v1::ROLE_USER);
    message.add_parts()->set_text("What is in the image?");
    return request;
  }

  struct Seen {
    absl::Status status;
    std::string text;
    std::vector<uint32_t> tokens;
    std::vector<uint64_t> sequences;
    chat::v1::ReplyStart start;
    chat::v1::ReplyEnding ending;
  };
  // `metadata` of the client's.
  Seen Stream(const chat::v1::StreamReplyRequest& request,
              const std::vector<std::pair<std::string, std::string>>& metadata = {}) {
    grpc::ClientContext context;
    for (const auto& [name, value] : metadata) context.AddMetadata(name, value);
    Seen seen;
    const auto reader = stub_->StreamReply(&context, request);
    chat::v1::StreamReplyResponse event;
    while (reader->Read(&event)) {
      seen.sequences.push_back(event.sequence());
      if (event.has_start()) seen.start = event.start();
      if (event.has_ending()) seen.ending = event.ending();
      seen.text += event.text().text();
      for (const uint32_t token : event.text().tokens()) seen.tokens.push_back(token);
    }
    seen.status = FromGrpc(reader->Finish());
    return seen;
  }

  // What a client that uploads `bytes` is answered; chunks as `send` writes them.
  using UploadStream =
      grpc::ClientReaderWriter<chat::v1::UploadMediaRequest, chat::v1::UploadMediaResponse>;
  absl::StatusOr<chat::v1::UploadedMedia> UploadBy(const std::string& digest, uint64_t size,
                                                   const std::string& scope,
                                                   const std::function<void(UploadStream&)>& send) {
    grpc::ClientContext context;
    context.AddMetadata("minicpmv-cache-scope", scope);
    const auto stream = stub_->UploadMedia(&context);
    chat::v1::UploadMediaRequest request;
    request.mutable_offer()->set_digest(digest);
    request.mutable_offer()->set_size(size);
    stream->Write(request);
    chat::v1::UploadMediaResponse response;
    if (stream->Read(&response) &&
        response.decision() == chat::v1::UploadMediaResponse::DECISION_SEND) {
      ++sent_uploads_;
      send(*stream);
    }
    stream->WritesDone();
    while (!response.has_media() && stream->Read(&response)) {
    }
    const absl::Status status = FromGrpc(stream->Finish());
    if (!status.ok()) return status;
    return response.media();
  }
  static void Send(UploadStream& stream, uint64_t offset, const std::string& data) {
    chat::v1::UploadMediaRequest request;
    request.mutable_chunk()->set_offset(offset);
    request.mutable_chunk()->set_data(data);
    stream.Write(request);
  }
  absl::StatusOr<chat::v1::UploadedMedia> UploadWhole(const std::string& bytes,
                                                      const std::string& scope) {
    return UploadBy(DigestOf(bytes), bytes.size(), scope,
                    [&](UploadStream& stream) { Send(stream, 0, bytes); });
  }

  std::unique_ptr<RouterModel> model_;
  std::vector<uint32_t> tokens_;
  std::mutex mutex_;
  std::condition_variable landed_;
  std::set<uint64_t> prompts_;  // slots whose prompt has landed
  std::promise<void> is_open_, was_cancelled_;
  Metrics metrics_;
  FakeWorker worker_{"w"};
  std::unique_ptr<RouterServer> router_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<chat::v1::ChatService::Stub> stub_;
  std::unique_ptr<control::v1::FleetService::Stub> fleet_stub_;
  std::unique_ptr<FleetMember> member_;
  std::atomic<uint64_t> slots_ = 0;
  int sent_uploads_ = 0;
};

TEST_F(ChatServiceTest, HandsTheTraceOnToEveryWorkerAndMakesOneWhereNoneCame) {
  std::vector<TraceContext> asked;  // guarded by mutex_
  const auto note = [&](const grpc::ServerContext& context) {
    const std::lock_guard<std::mutex> lock(mutex_);
    asked.push_back(TraceContextOf(context.client_metadata()));
  };
  worker_.prefill = [&, prefill = worker_.prefill](auto& context, const auto& request,
                                                   auto& writer) {
    note(context);
    return prefill(context, request, writer);
  };
  worker_.decode = [&, decode = worker_.decode](auto& context, const auto& request, auto& writer) {
    note(context);
    return decode(context, request, writer);
  };
  Join();
  const std::string trace = "0af7651916cd43dd8448eb211c80319c";
  const std::string parent = "00-" + trace + "-b7ad6b7169203331-00";
  const std::vector<std::pair<std::string, std::string>> state = {{"tracestate", "a=1"},
                                                                  {"tracestate", "b=2"}};
  const auto with = [&](const std::string& traceparent) {
    auto metadata = state;
    metadata.emplace_back("traceparent", traceparent);
    return metadata;
  };
  EXPECT_EQ(Stream(Question(), with(parent)).status, absl::OkStatus());
  ASSERT_EQ(asked.size(), 2u);
  for (const TraceContext& context : asked) {
    EXPECT_EQ(context.trace_id, trace);
    EXPECT_NE(context.parent_id, "b7ad6b7169203331");  // it is the router that asks
    EXPECT_EQ(context.flags, 0);
    EXPECT_EQ(context.state, "a=1,b=2");
  }
  EXPECT_NE(asked[0].parent_id, asked[1].parent_id);

  auto twice = with(parent);
  twice.emplace_back("traceparent", parent);
  std::string last = trace;
  for (const auto& metadata : {state, with("00-" + trace + "-xyz-00"), twice}) {
    asked.clear();
    EXPECT_EQ(Stream(Question(), metadata).status, absl::OkStatus());
    ASSERT_EQ(asked.size(), 2u);
    EXPECT_EQ(asked[0].trace_id, asked[1].trace_id);
    EXPECT_NE(asked[0].trace_id, last);
    EXPECT_NE(asked[0].parent_id, "");
    EXPECT_EQ(asked[0].state, "");
    last = asked[0].trace_id;
  }
}

TEST_F(ChatServiceTest, StreamsAReply) {
  Join();
  chat::v1::StreamReplyRequest request = Question();
  request.mutable_options()->mutable_sampling()->set_seed(5);
  const Seen seen = Stream(request);
  ASSERT_TRUE(seen.status.ok()) << seen.status;
  EXPECT_EQ(seen.text, kText);
  EXPECT_THAT(seen.tokens, ElementsAreArray(tokens_));
  EXPECT_EQ(seen.start.seed(), 5u);
  EXPECT_EQ(seen.start.model(), "nano");
  EXPECT_FALSE(seen.start.request_id().empty());
  EXPECT_EQ(seen.ending.finish_reason(), chat::v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(seen.ending.usage().completion_tokens(), tokens_.size());
  for (size_t i = 0; i < seen.sequences.size(); ++i) EXPECT_EQ(seen.sequences[i], i + 1);
  EXPECT_NE(metrics_.Text().find("minicpmv_workers{role=\"decode\",state=\"ready\"} 1"),
            std::string::npos);
}

TEST_F(ChatServiceTest, GeneratesTheSameAtOnce) {
  Join();
  chat::v1::GenerateReplyRequest request;
  *request.mutable_conversation() = Question().conversation();
  chat::v1::GenerateReplyResponse response;
  grpc::ClientContext context;
  const grpc::Status status = stub_->GenerateReply(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.replies_size(), 1);
  EXPECT_EQ(response.replies(0).text(), kText);
  EXPECT_THAT(response.replies(0).tokens(), ElementsAreArray(tokens_));
  EXPECT_EQ(response.model(), "nano");
  EXPECT_GT(response.usage().prompt_tokens(), 0u);
}

TEST_F(ChatServiceTest, WaitsForAWorkerToJoin) {
  std::future<Seen> seen = std::async(std::launch::async, [this] { return Stream(Question()); });
  Join();
  EXPECT_EQ(seen.get().text, kText);
}

TEST_F(ChatServiceTest, GoesOnWithAReplyThatAnotherStreamBegan) {
  Join();
  chat::v1::StreamReplyRequest request = Question();
  chat::v1::Resume& resume = *request.mutable_resume();
  for (size_t i = 0; i < 3; ++i) resume.add_tokens(tokens_[i]);
  const std::vector<int32_t> first(tokens_.begin(), tokens_.begin() + 3);
  const std::string had = model_->tokenizer().Decode(first);
  resume.set_text_bytes(had.size());
  resume.set_sequence(4);
  resume.set_seed(9);
  resume.set_request_id("r-1");
  const Seen seen = Stream(request);
  ASSERT_TRUE(seen.status.ok()) << seen.status;
  EXPECT_EQ(had + seen.text, kText);
  EXPECT_EQ(seen.start.seed(), 9u);
  for (size_t i = 0; i < seen.sequences.size(); ++i) EXPECT_EQ(seen.sequences[i], i + 5);
}

TEST_F(ChatServiceTest, RefusesWhatIsWrongAndAnswersOthers) {
  Join();
  chat::v1::StreamReplyRequest wrong = Question();
  wrong.mutable_options()->mutable_sampling()->set_top_p(7);
  EXPECT_TRUE(absl::IsInvalidArgument(Stream(wrong).status));
  chat::v1::StreamReplyRequest unknown = Question();
  unknown.set_model("gpt");
  EXPECT_TRUE(absl::IsNotFound(Stream(unknown).status));
  EXPECT_EQ(Stream(Question()).text, kText);
}

TEST_F(ChatServiceTest, RefusesAMessageOverTheLimit) {
  chat::v1::StreamReplyRequest request = Question();
  request.mutable_conversation()->mutable_messages(0)->add_parts()->mutable_media()->set_inline_(
      std::string(5 << 20, 'x'));
  EXPECT_TRUE(absl::IsResourceExhausted(Stream(request).status));
}

TEST_F(ChatServiceTest, CancelsTheWorkersCallWithTheClients) {
  HangDecode();
  Join();
  grpc::ClientContext context;
  const auto reader = stub_->StreamReply(&context, Question());
  chat::v1::StreamReplyResponse event;
  ASSERT_TRUE(reader->Read(&event));
  ASSERT_EQ(is_open_.get_future().wait_for(kPatience), std::future_status::ready);
  context.TryCancel();
  EXPECT_EQ(was_cancelled_.get_future().wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(ChatServiceTest, CancelsTheWorkersCallAtTheDeadline) {
  HangDecode();
  Join();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(2));
  const auto reader = stub_->StreamReply(&context, Question());
  EXPECT_EQ(was_cancelled_.get_future().wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  // Whoever is first to say so, the client or our own clock.
  EXPECT_TRUE(Eventually([this] {
    return metrics_.Text().find("minicpmv_cancellations_total{by=\"deadline\"} 1") !=
           std::string::npos;
  }));
}

TEST_F(ChatServiceTest, TakesAnUploadAndAnswersAboutIt) {
  Join();
  const std::string bytes(300'000, 'p');
  const auto uploaded =
      UploadBy(DigestOf(bytes), bytes.size(), "tenant", [&](UploadStream& stream) {
        Send(stream, 0, bytes.substr(0, 256 << 10));
        Send(stream, 256 << 10, bytes.substr(256 << 10));
      });
  ASSERT_TRUE(uploaded.ok()) << uploaded.status();
  EXPECT_EQ(uploaded->format(), "png");
  EXPECT_EQ(uploaded->width(), 64u);
  EXPECT_EQ(uploaded->frames(), 1u);
  EXPECT_GT(uploaded->kept_for().seconds(), 0);
  const auto again = UploadWhole(bytes, "tenant");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->handle(), uploaded->handle());
  EXPECT_EQ(sent_uploads_, 1);

  chat::v1::StreamReplyRequest request = Question();
  request.mutable_conversation()->mutable_messages(0)->add_parts()->mutable_media()->set_handle(
      uploaded->handle());
  EXPECT_TRUE(absl::IsNotFound(Stream(request).status)) << "another cache scope";
  grpc::ClientContext context;
  context.AddMetadata("minicpmv-cache-scope", "tenant");
  const auto reader = stub_->StreamReply(&context, request);
  std::string text;
  chat::v1::StreamReplyResponse event;
  while (reader->Read(&event)) text += event.text().text();
  const grpc::Status status = reader->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(text, kText);
}

TEST_F(ChatServiceTest, RefusesUploadsThatAreNotWhatWasOffered) {
  Join();
  const std::string bytes(1000, 'u');
  const auto nothing = [](UploadStream&) {};
  EXPECT_TRUE(absl::IsInvalidArgument(UploadBy("short", 10, "", nothing).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(UploadBy(DigestOf(""), 0, "", nothing).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(UploadBy(DigestOf(""), 1ull << 40, "", nothing).status()));
  EXPECT_TRUE(absl::IsDataLoss(UploadBy(DigestOf(bytes), 1000, "", nothing).status()));
  EXPECT_TRUE(absl::IsDataLoss(UploadBy(DigestOf("other"), 1000, "", [&](auto& stream) {
                                 Send(stream, 0, bytes);
                               }).status()));
  EXPECT_TRUE(absl::IsDataLoss(
      UploadBy(DigestOf(bytes), 1000, "", [&](auto& stream) { Send(stream, 1, bytes); }).status()));
  EXPECT_TRUE(absl::IsDataLoss(
      UploadBy(DigestOf(bytes), 999, "", [&](auto& stream) { Send(stream, 0, bytes); }).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(UploadBy(DigestOf(bytes), 1 << 20, "", [&](auto& stream) {
                                        Send(stream, 0, std::string((256 << 10) + 1, 'x'));
                                      }).status()));
  EXPECT_TRUE(UploadWhole(bytes, "").ok());
}

TEST_F(ChatServiceTest, PassesOnWhyAHomeRefusesAnUpload) {
  worker_.put = [](grpc::ServerContext&, auto&) {
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "not a picture");
  };
  Join();
  EXPECT_EQ(UploadWhole("text", "").status(), absl::InvalidArgumentError("not a picture"));
}

TEST_F(ChatServiceTest, ListsItsModel) {
  grpc::ClientContext context;
  chat::v1::ListModelsResponse response;
  ASSERT_TRUE(stub_->ListModels(&context, {}, &response).ok());
  ASSERT_EQ(response.models_size(), 1);
  EXPECT_EQ(response.models(0).name(), "nano");
}

TEST_F(ChatServiceTest, EndsWithRepliesInFlight) {
  HangDecode();
  Join();
  grpc::ClientContext context;
  const auto reader = stub_->StreamReply(&context, Question());
  chat::v1::StreamReplyResponse event;
  ASSERT_TRUE(reader->Read(&event));
  ASSERT_EQ(is_open_.get_future().wait_for(kPatience), std::future_status::ready);
  router_ = nullptr;
  EXPECT_EQ(was_cancelled_.get_future().wait_for(kPatience), std::future_status::ready);
  EXPECT_FALSE(reader->Finish().ok());
}

}  // namespace
}  // namespace minicpmv::router
