#include "tools/bench_router/idle_worker.h"

#include <chrono>
#include <future>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "services/common/fleet_names.h"

namespace minicpmv {
namespace {

constexpr char kIncarnation[] = "0123456789abcdef";
constexpr uint32_t kToken = 40;  // any that is no stop id
constexpr uint32_t kPages = 1 << 20;
constexpr std::chrono::milliseconds kBetweenHeartbeats(200);

}  // namespace

class IdleWorker::Vision final : public vision::v1::VisionService::CallbackService {
 public:
  explicit Vision(IdleWorker& owner) : owner_(owner) {}

  grpc::ServerBidiReactor<vision::v1::PutMediaRequest, vision::v1::PutMediaResponse>* PutMedia(
      grpc::CallbackServerContext*) override {
    using Stream = ServerBidi<vision::v1::PutMediaRequest, vision::v1::PutMediaResponse>;
    auto stream = Stream::Create();
    stream->Receive([this, stream](std::optional<vision::v1::PutMediaRequest> request) {
      vision::v1::PutMediaResponse response;
      if (request && request->has_offer()) {
        const std::lock_guard<std::mutex> lock(mutex_);
        const bool is_held = !held_.insert(request->offer().digest()).second;
        response.set_decision(is_held ? vision::v1::PutMediaResponse::DECISION_HELD
                                      : vision::v1::PutMediaResponse::DECISION_SEND);
        stream->Send(std::move(response));
      } else if (!request) {
        common::v1::MediaInfo& info = *response.mutable_info();
        info.set_kind(common::v1::MEDIA_KIND_IMAGE);
        info.set_format("png");
        info.set_width(64);
        info.set_height(48);
        info.set_stored_width(64);
        info.set_stored_height(48);
        stream->Send(std::move(response));
        stream->End(absl::OkStatus());
      }
    });
    return stream->reactor();
  }

  grpc::ServerWriteReactor<vision::v1::EncodeMediaResponse>* EncodeMedia(
      grpc::CallbackServerContext*, const vision::v1::EncodeMediaRequest* request) override {
    auto stream = ServerStream<vision::v1::EncodeMediaResponse>::Create();
    vision::v1::EncodeMediaResponse response;
    *response.mutable_landing() = owner_.NewLanding();
    stream->Send(response);
    for (const vision::v1::IndexedSpan& span : request->spans()) {
      response.mutable_slice()->set_span_index(span.index());
      response.mutable_slice()->set_step(vision::v1::SliceProgress::STEP_LANDED_ROWS);
      stream->Send(response);
    }
    response.mutable_done();
    stream->Send(response);
    stream->End(absl::OkStatus());
    return stream->reactor();
  }

 private:
  IdleWorker& owner_;
  std::mutex mutex_;
  std::set<std::string> held_;  // guarded by mutex_
};

class IdleWorker::Prefill final : public prefill::v1::PrefillService::CallbackService {
 public:
  explicit Prefill(IdleWorker& owner) : owner_(owner) {}

  grpc::ServerWriteReactor<prefill::v1::PrefillPromptResponse>* PrefillPrompt(
      grpc::CallbackServerContext*, const prefill::v1::PrefillPromptRequest* request) override {
    auto stream = ServerStream<prefill::v1::PrefillPromptResponse>::Create();
    prefill::v1::PrefillPromptResponse response;
    *response.mutable_landing() = owner_.NewLanding();
    stream->Send(response);
    response.mutable_done();
    stream->Send(response);
    stream->End(absl::OkStatus());
    owner_.PromptLanded(request->destination().landing().slot());
    return stream->reactor();
  }

 private:
  IdleWorker& owner_;
};

class IdleWorker::Decode final : public decode::v1::DecodeService::CallbackService {
 public:
  explicit Decode(IdleWorker& owner) : owner_(owner) {}

  grpc::ServerWriteReactor<decode::v1::DecodeSequenceResponse>* DecodeSequence(
      grpc::CallbackServerContext*, const decode::v1::DecodeSequenceRequest* request) override {
    auto stream = DecodeStream::Create();
    const common::v1::Landing landing = owner_.NewLanding();
    decode::v1::DecodeSequenceResponse response;
    *response.mutable_landing() = landing;
    stream->Send(std::move(response));
    owner_.Add(landing.slot(), {stream, 0, request->limits().max_new_tokens(), false});
    stream->OnGone([this, slot = landing.slot()] { owner_.Remove(slot); });
    return stream->reactor();
  }

 private:
  IdleWorker& owner_;
};

IdleWorker::IdleWorker(const std::string& model_fingerprint, absl::Duration step)
    : model_fingerprint_(model_fingerprint),
      step_(step),
      vision_(std::make_unique<Vision>(*this)),
      prefill_(std::make_unique<Prefill>(*this)),
      decode_(std::make_unique<Decode>(*this)) {
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(vision_.get());
  builder.RegisterService(prefill_.get());
  builder.RegisterService(decode_.get());
  server_ = builder.BuildAndStart();
  CHECK(server_ != nullptr);
  address_ = "127.0.0.1:" + std::to_string(port);
  steps_ = std::thread([this] { RunSteps(); });
}

IdleWorker::~IdleWorker() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_ending_ = true;
  }
  changed_.notify_all();
  steps_.join();
  if (heartbeats_.joinable()) heartbeats_.join();
  for (auto& [slot, sequence] : sequences_) {
    sequence.stream->End(absl::UnavailableError("the benchmark is over"));
  }
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
}

common::v1::Landing IdleWorker::NewLanding() {
  common::v1::Landing landing;
  landing.set_incarnation(kIncarnation);
  landing.set_slot(++slots_);
  return landing;
}

void IdleWorker::Add(uint64_t slot, Sequence sequence) {
  const std::lock_guard<std::mutex> lock(mutex_);
  sequences_.emplace(slot, std::move(sequence));
}

void IdleWorker::PromptLanded(uint64_t slot) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto place = sequences_.find(slot);
  if (place == sequences_.end()) return;
  place->second.has_prompt = true;
  if (Step(place->second)) sequences_.erase(place);
}

void IdleWorker::Remove(uint64_t slot) {
  std::shared_ptr<DecodeStream> stream;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto place = sequences_.find(slot);
    if (place == sequences_.end()) return;
    stream = place->second.stream;
    sequences_.erase(place);
  }
  stream->End(absl::CancelledError("gone"));
}

bool IdleWorker::Step(Sequence& sequence) {
  decode::v1::DecodeSequenceResponse response;
  response.mutable_tokens()->add_tokens(kToken);
  response.mutable_tokens()->set_first_index(sequence.sent);
  sequence.stream->Send(std::move(response));
  if (++sequence.sent < sequence.wanted) return false;
  decode::v1::DecodeSequenceResponse last;
  last.mutable_ending()->set_reason(decode::v1::Ending::REASON_LENGTH);
  last.mutable_ending()->set_new_tokens(sequence.sent);
  sequence.stream->Send(std::move(last));
  sequence.stream->End(absl::OkStatus());
  return true;
}

void IdleWorker::RunSteps() {
  auto next = std::chrono::steady_clock::now();
  std::unique_lock<std::mutex> lock(mutex_);
  while (!is_ending_) {
    next += absl::ToChronoNanoseconds(step_);
    changed_.wait_until(lock, next, [this] { return is_ending_; });
    for (auto place = sequences_.begin(); place != sequences_.end();) {
      const auto present = place++;
      if (present->second.has_prompt && Step(present->second)) sequences_.erase(present);
    }
  }
}

void IdleWorker::Join(const std::string& router) {
  fleet_ = control::v1::FleetService::NewStub(
      grpc::CreateChannel(router, grpc::InsecureChannelCredentials()));
  auto welcome = std::make_shared<std::promise<void>>();
  membership_ = FleetCall::Start(
      [this](auto* context, auto* reactor) { fleet_->async()->JoinFleet(context, reactor); },
      {[welcome](const control::v1::JoinFleetResponse& response) {
         if (response.has_welcome()) welcome->set_value();
       },
       [](const absl::Status&) {}});
  control::v1::JoinFleetRequest request;
  control::v1::WorkerHello& hello = *request.mutable_hello();
  hello.set_worker_id("idle");
  hello.set_incarnation(kIncarnation);
  hello.set_address(address_);
  for (const common::v1::Role role : kRoles) hello.add_roles(role);
  hello.mutable_model()->set_model("nano");
  hello.mutable_model()->set_model_fingerprint(model_fingerprint_);
  hello.mutable_model()->set_layout_fingerprint(std::string(32, 'l'));
  hello.set_first_transfer_version(1);
  hello.set_last_transfer_version(1);
  hello.mutable_capacity()->set_pages(kPages);
  hello.mutable_capacity()->set_page_tokens(16);
  hello.mutable_capacity()->set_max_sequence_tokens(2048);
  membership_->Send(std::move(request));
  welcome->get_future().wait();
  heartbeats_ = std::thread([this] {
    std::unique_lock<std::mutex> lock(mutex_);
    for (uint64_t sequence = 1; !is_ending_; ++sequence) {
      control::v1::JoinFleetRequest heartbeat;
      heartbeat.mutable_heartbeat()->set_sequence(sequence);
      control::v1::WorkerLoad& load = *heartbeat.mutable_heartbeat()->mutable_load();
      load.set_state(control::v1::WORKER_STATE_READY);
      load.mutable_pages()->set_free(kPages);
      membership_->Send(std::move(heartbeat));
      changed_.wait_for(lock, kBetweenHeartbeats, [this] { return is_ending_; });
    }
    membership_->SendLast();
    membership_->Cancel();
  });
}

}  // namespace minicpmv
