#include "services/router/grpc_workers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <optional>

#include "services/common/trace_metadata.h"
#include "services/common/worker.h"
#include "services/router/thread_loop.h"
#include "tests/services/router/fake_workers.h"

namespace minicpmv::router {
namespace {

using ::testing::ElementsAre;

constexpr std::chrono::seconds kPatience(30);

// What one call told, in order, until its end.
template <typename Response>
class Heard {
 public:
  Told<Response> Ear() {
    return [this](std::variant<Response, absl::Status> what) {
      if (auto* const status = std::get_if<absl::Status>(&what)) {
        end_.set_value(*status);
      } else {
        responses_.push_back(std::get<Response>(std::move(what)));
      }
    };
  }
  absl::Status AwaitEnd() {
    std::future<absl::Status> end = end_.get_future();
    if (end.wait_for(kPatience) != std::future_status::ready) {
      return absl::UnknownError("no end was told");
    }
    return end.get();
  }
  const std::vector<Response>& responses() const { return responses_; }

 private:
  std::vector<Response> responses_;
  std::promise<absl::Status> end_;
};

class GrpcWorkersTest : public ::testing::Test {
 protected:
  ~GrpcWorkersTest() override { workers_ = nullptr; }

  // As the router does: from the loop.
  template <typename Call>
  std::unique_ptr<Open> OnLoop(const Call& call) {
    std::unique_ptr<Open> open;
    loop_.Run([&] { open = call(); });
    return open;
  }
  void Close(std::unique_ptr<Open> open) {
    loop_.Run([&] { open = nullptr; });
  }

  MediaBytes::Held Keep(const std::string& bytes) {
    return *media_.Keep("scope", DigestOf(bytes), bytes, *media_.Reserve(bytes.size()));
  }

  // A put of `digest`, with these bytes or none, to its end.
  absl::Status Put(const WorkerName& worker, const std::string& digest,
                   std::shared_ptr<const std::string> bytes,
                   std::vector<common::v1::MediaInfo>* infos = nullptr) {
    Heard<common::v1::MediaInfo> heard;
    common::v1::RequestScope scope;
    scope.set_cache_scope("scope");
    std::unique_ptr<Open> open =
        OnLoop([&] { return workers_->PutMedia(worker, {}, scope, digest, bytes, heard.Ear()); });
    const absl::Status status = heard.AwaitEnd();
    if (infos != nullptr) *infos = heard.responses();
    Close(std::move(open));
    return status;
  }

  ThreadLoop loop_;
  MediaBytes media_{MediaBytes::Limits()};
  std::unique_ptr<GrpcWorkers> workers_ =
      std::make_unique<GrpcWorkers>(loop_, Credentials(), std::string(16, '\xAB'), media_);
};

// Answers a put as a home does that holds nothing, and collects the bytes.
FakeWorker::Put TakesBytes(std::string& bytes) {
  return [&bytes](grpc::ServerContext&, auto& stream) {
    vision::v1::PutMediaRequest request;
    stream.Read(&request);
    const uint64_t size = request.offer().size();
    vision::v1::PutMediaResponse response;
    response.set_decision(vision::v1::PutMediaResponse::DECISION_SEND);
    stream.Write(response);
    while (stream.Read(&request)) {
      if (request.chunk().offset() != bytes.size() || request.chunk().data().size() > 256 << 10) {
        return grpc::Status(grpc::StatusCode::DATA_LOSS, "out of order");
      }
      bytes += request.chunk().data();
    }
    if (bytes.size() != size) return grpc::Status(grpc::StatusCode::DATA_LOSS, "another size");
    response.mutable_info()->set_width(7);
    stream.Write(response);
    return grpc::Status::OK;
  };
}

TEST_F(GrpcWorkersTest, TellsMessagesInOrderAndThenTheEnd) {
  FakeWorker worker("a");
  worker.decode = [](grpc::ServerContext& context, const auto& request, auto& writer) {
    EXPECT_EQ(request.scope().request_id(), "r");
    const auto router = context.client_metadata().find(std::string(kRouterMetadata));
    EXPECT_NE(router, context.client_metadata().end());
    const TraceContext asked = TraceContextOf(context.client_metadata());
    EXPECT_EQ(asked.trace_id, std::string(31, '0') + "1");
    EXPECT_EQ(asked.parent_id, std::string(15, '0') + "2");
    EXPECT_EQ(asked.state, "a=b");
    for (uint32_t i = 0; i < 100; ++i) {
      decode::v1::DecodeSequenceResponse response;
      response.mutable_tokens()->add_tokens(i);
      writer.Write(response);
    }
    return grpc::Status(grpc::StatusCode::ABORTED, "preempted");
  };
  decode::v1::DecodeSequenceRequest request;
  request.mutable_scope()->set_request_id("r");
  const TraceContext work = {std::string(31, '0') + "1", std::string(15, '0') + "2", "", 1, "a=b"};
  Heard<decode::v1::DecodeSequenceResponse> heard;
  std::unique_ptr<Open> open =
      OnLoop([&] { return workers_->DecodeSequence(worker.name(), work, request, heard.Ear()); });
  EXPECT_EQ(heard.AwaitEnd(), absl::AbortedError("preempted"));
  ASSERT_EQ(heard.responses().size(), 100u);
  for (uint32_t i = 0; i < 100; ++i) {
    EXPECT_THAT(heard.responses()[i].tokens().tokens(), ElementsAre(i));
  }
  Close(std::move(open));
}

TEST_F(GrpcWorkersTest, GivesACallUpThatIsClosedAndTellsNothingMore) {
  FakeWorker worker("a");
  std::promise<void> is_open, was_cancelled;
  worker.prefill = [&](grpc::ServerContext& context, const auto&, auto&) {
    is_open.set_value();
    while (!context.IsCancelled()) std::this_thread::yield();
    was_cancelled.set_value();
    return grpc::Status::CANCELLED;
  };
  bool was_told = false;
  std::unique_ptr<Open> open = OnLoop([&] {
    return workers_->PrefillPrompt(worker.name(), {}, {}, [&](const auto&) { was_told = true; });
  });
  ASSERT_EQ(is_open.get_future().wait_for(kPatience), std::future_status::ready);
  Close(std::move(open));
  EXPECT_EQ(was_cancelled.get_future().wait_for(kPatience), std::future_status::ready);
  workers_ = nullptr;  // waits for what gRPC has of the call
  loop_.Run([] {});
  EXPECT_FALSE(was_told);
}

TEST_F(GrpcWorkersTest, LetsTheReceiverCloseItsOwnCall) {
  FakeWorker worker("a");
  worker.encode = [&](grpc::ServerContext& context, const auto&, auto& writer) {
    vision::v1::EncodeMediaResponse response;
    response.mutable_landing();
    writer.Write(response);
    while (!context.IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  };
  std::unique_ptr<Open> open;
  std::promise<void> closed;
  loop_.Run([&] {
    open = workers_->EncodeMedia(worker.name(), {}, {}, [&](const auto&) {
      open = nullptr;
      closed.set_value();
    });
  });
  EXPECT_EQ(closed.get_future().wait_for(kPatience), std::future_status::ready);
}

TEST_F(GrpcWorkersTest, EndsCallsToAWorkerThatIsGoneWithUnavailable) {
  WorkerName gone;
  { gone = FakeWorker("a").name(); }
  for (const char* const address : {gone.address.c_str(), "", "unix:/tmp/x", "nowhere"}) {
    Heard<decode::v1::DecodeSequenceResponse> heard;
    std::unique_ptr<Open> open = OnLoop([&] {
      return workers_->DecodeSequence({"a", address, ""}, {}, {}, heard.Ear());
    });
    EXPECT_TRUE(absl::IsUnavailable(heard.AwaitEnd())) << address;
    Close(std::move(open));
  }
}

TEST_F(GrpcWorkersTest, HoldsConnectionsToTheLivingAlone) {
  const auto ask = [&](const WorkerName& worker) {
    Heard<decode::v1::DecodeSequenceResponse> heard;
    std::unique_ptr<Open> open =
        OnLoop([&] { return workers_->DecodeSequence(worker, {}, {}, heard.Ear()); });
    const absl::Status end = heard.AwaitEnd();
    Close(std::move(open));
    return end;
  };
  FakeWorker stays("stays");
  stays.decode = [](auto&...) { return grpc::Status::OK; };
  EXPECT_TRUE(ask(stays.name()).ok());
  for (int life = 0; life < 20; ++life) {
    FakeWorker passes("passes");
    passes.decode = [](auto&...) { return grpc::Status::OK; };
    EXPECT_TRUE(ask(passes.name()).ok());
    EXPECT_TRUE(ask(stays.name()).ok());
  }
  size_t connections = 0;
  loop_.Run([&] { connections = workers_->connections(); });
  // That the last ones have gone may not have been seen yet.
  EXPECT_LE(connections, 6u);
}

TEST_F(GrpcWorkersTest, PutsBytesInChunks) {
  FakeWorker worker("a");
  std::string arrived;
  worker.put = TakesBytes(arrived);
  const std::string bytes(700'001, 'b');
  std::vector<common::v1::MediaInfo> infos;
  const absl::Status status =
      Put(worker.name(), DigestOf(bytes), std::make_shared<const std::string>(bytes), &infos);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(arrived, bytes);
  ASSERT_EQ(infos.size(), 1u);
  EXPECT_EQ(infos[0].width(), 7u);
}

TEST_F(GrpcWorkersTest, SendsNoBytesThatAreHeld) {
  FakeWorker worker("a");
  worker.put = [](grpc::ServerContext&, auto& stream) {
    vision::v1::PutMediaRequest request;
    vision::v1::PutMediaResponse response;
    response.set_decision(vision::v1::PutMediaResponse::DECISION_HELD);
    stream.Read(&request);
    EXPECT_EQ(request.offer().scope().cache_scope(), "scope");
    stream.Write(response);
    EXPECT_FALSE(stream.Read(&request));
    response.mutable_info();
    stream.Write(response);
    return grpc::Status::OK;
  };
  std::vector<common::v1::MediaInfo> infos;
  EXPECT_TRUE(
      Put(worker.name(), DigestOf("x"), std::make_shared<const std::string>("x"), &infos).ok());
  EXPECT_EQ(infos.size(), 1u);
}

TEST_F(GrpcWorkersTest, FindsBytesAmongTheKeptMedia) {
  FakeWorker worker("a");
  std::string arrived;
  worker.put = TakesBytes(arrived);
  const std::string bytes(300'000, 'k');
  const MediaBytes::Held held = Keep(bytes);
  const absl::Status status = Put(worker.name(), DigestOf(bytes), nullptr);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(arrived, bytes);
}

TEST_F(GrpcWorkersTest, SaysSoWhenNobodyHasTheBytes) {
  FakeWorker worker("a");
  std::string arrived;
  worker.put = TakesBytes(arrived);
  EXPECT_TRUE(absl::IsNotFound(Put(worker.name(), DigestOf("none"), nullptr)));
}

TEST_F(GrpcWorkersTest, PassesOnWhyAHomeRefusesAMedium) {
  FakeWorker worker("a");
  worker.put = [](grpc::ServerContext&, auto&) {
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no picture");
  };
  EXPECT_EQ(Put(worker.name(), DigestOf("x"), std::make_shared<const std::string>("x")),
            absl::InvalidArgumentError("no picture"));
}

}  // namespace
}  // namespace minicpmv::router
