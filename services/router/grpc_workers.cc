#include "services/router/grpc_workers.h"

#include <atomic>
#include <mutex>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "minicpmv/decode/v1/decode_service.grpc.pb.h"
#include "minicpmv/prefill/v1/prefill_service.grpc.pb.h"
#include "minicpmv/vision/v1/vision_service.grpc.pb.h"
#include "runtime/base/status_macros.h"
#include "services/common/calls.h"
#include "services/common/trace_metadata.h"
#include "services/common/worker.h"

namespace minicpmv::router {
namespace {

constexpr size_t kChunkBytes = 256 << 10;

// Kept by whatever gRPC still has of a call.
using Token = std::shared_ptr<const OpenCalls::Entry>;

// Carries what a call says to the loop, until nobody wants to hear it.
template <typename Response>
class Ear : public std::enable_shared_from_this<Ear<Response>> {
 public:
  Ear(Loop& loop, Told<Response> told) : loop_(loop), told_(std::move(told)) {}

  // From any thread.
  void Tell(std::variant<Response, absl::Status> what) {
    loop_.Post([self = this->shared_from_this(), what = std::move(what)]() mutable {
      if (!self->told_) return;
      // The receiver may destroy what it is called through.
      const Told<Response> told = self->told_;
      told(std::move(what));
    });
  }
  // On the loop.
  void Close() { told_ = nullptr; }

 private:
  Loop& loop_;
  Told<Response> told_;
};

// `Call` is one of the asking kinds of calls.h; null where nothing could be asked.
template <typename Response, typename Call>
class OpenCall final : public Open {
 public:
  OpenCall(std::shared_ptr<Ear<Response>> ear, std::shared_ptr<Call> call)
      : ear_(std::move(ear)), call_(std::move(call)) {}
  ~OpenCall() override {
    ear_->Close();
    if (call_ != nullptr) call_->Cancel();
  }

 private:
  const std::shared_ptr<Ear<Response>> ear_;
  const std::shared_ptr<Call> call_;
};

// One PutMedia: offers, sends what is wanted, tells the information. From gRPC's threads and the
// files' thread, one at a time.
class Putting : public std::enable_shared_from_this<Putting> {
 public:
  using Call = ClientBidi<vision::v1::PutMediaRequest, vision::v1::PutMediaResponse>;
  using InfoEar = Ear<common::v1::MediaInfo>;

  Putting(Token token, std::shared_ptr<InfoEar> ear, std::string digest,
          std::shared_ptr<const std::string> bytes, MediaBytes::Held medium)
      : token_(std::move(token)),
        ear_(std::move(ear)),
        digest_(std::move(digest)),
        bytes_(std::move(bytes)),
        medium_(std::move(medium)) {}

  void Start(vision::v1::VisionService::Stub& stub, const common::v1::RequestScope& scope,
             const std::function<void(grpc::ClientContext&)>& prepare) {
    vision::v1::PutMediaRequest request;
    vision::v1::MediaOffer& offer = *request.mutable_offer();
    *offer.mutable_scope() = scope;
    offer.set_digest(digest_);
    offer.set_size(bytes_ != nullptr ? bytes_->size() : medium_ != nullptr ? medium_->size() : 0);
    const auto self = shared_from_this();
    const std::shared_ptr<Call> call = Call::Start(
        [&stub](auto* context, auto* reactor) { stub.async()->PutMedia(context, reactor); },
        {[self](vision::v1::PutMediaResponse response) { self->OnResponse(std::move(response)); },
         [self](const absl::Status& status) { self->OnEnd(status); }, [self] { self->SendMore(); }},
        prepare);
    call->Send(std::move(request));
    // What was told meanwhile waited for this.
    std::unique_lock<std::mutex> lock(mutex_);
    call_ = call;
    const bool is_decided = decision_ != vision::v1::PutMediaResponse::DECISION_UNSPECIFIED;
    lock.unlock();
    if (is_decided) Follow();
  }

  void Cancel() {
    std::shared_ptr<Call> call;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      call = call_;
    }
    if (call != nullptr) call->Cancel();
  }

 private:
  void OnResponse(vision::v1::PutMediaResponse response) {
    if (response.has_info()) {
      ear_->Tell(std::move(*response.mutable_info()));
      return;
    }
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (decision_ != vision::v1::PutMediaResponse::DECISION_UNSPECIFIED) return;  // said twice
      decision_ = response.decision();
      if (call_ == nullptr) return;
    }
    Follow();
  }

  // The decision is known, and the call.
  void Follow() {
    if (decision_ != vision::v1::PutMediaResponse::DECISION_SEND) return call_->SendLast();
    if (bytes_ != nullptr) return SendBytes(bytes_);
    if (medium_ == nullptr) {
      is_missing_ = true;
      return call_->Cancel();
    }
    medium_->Load(
        [self = shared_from_this()](absl::StatusOr<std::shared_ptr<const std::string>> bytes) {
          if (bytes.ok()) return self->SendBytes(*std::move(bytes));
          self->is_missing_ = true;
          self->call_->Cancel();
        });
  }

  void SendBytes(std::shared_ptr<const std::string> bytes) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      unsent_ = std::move(bytes);
    }
    SendMore();
  }

  // One chunk after the other, so that a medium on its way costs no more than that.
  void SendMore() {
    std::shared_ptr<const std::string> ended;  // given up outside the lock
    std::unique_lock<std::mutex> lock(mutex_);
    if (is_sending_) return;  // whoever does looks again
    is_sending_ = true;
    while (unsent_ != nullptr && call_->waiting() == 0) {
      vision::v1::PutMediaRequest request;
      request.mutable_chunk()->set_offset(sent_);
      request.mutable_chunk()->set_data(unsent_->substr(sent_, kChunkBytes));
      sent_ += request.chunk().data().size();
      const bool is_last = sent_ == unsent_->size();
      if (is_last) ended = std::move(unsent_);
      lock.unlock();
      const bool is_sent = call_->Send(std::move(request));
      if (is_last) call_->SendLast();
      lock.lock();
      if (!is_sent && unsent_ != nullptr) ended = std::move(unsent_);
    }
    is_sending_ = false;
    lock.unlock();
  }

  void OnEnd(const absl::Status& status) {
    std::shared_ptr<const std::string> unsent;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      unsent.swap(unsent_);
    }
    if (is_missing_ && !status.ok()) {
      ear_->Tell(absl::NotFoundError("neither the worker nor the router holds the medium"));
    } else {
      ear_->Tell(status);
    }
  }

  const Token token_;  // first, so that it goes last
  const std::shared_ptr<InfoEar> ear_;
  const std::string digest_;
  const std::shared_ptr<const std::string> bytes_;
  const MediaBytes::Held medium_;
  std::atomic<bool> is_missing_ = false;

  std::mutex mutex_;
  std::shared_ptr<Call> call_;  // guarded by mutex_ until it is set
  vision::v1::PutMediaResponse::Decision decision_ =
      vision::v1::PutMediaResponse::DECISION_UNSPECIFIED;  // guarded by mutex_ until it is set
  // Guarded by mutex_.
  std::shared_ptr<const std::string> unsent_;  // null: nothing is to be sent (any more)
  size_t sent_ = 0;                            // of its bytes
  bool is_sending_ = false;
};

}  // namespace

struct GrpcWorkers::Stubs {
  explicit Stubs(const std::shared_ptr<grpc::Channel>& channel)
      : vision(vision::v1::VisionService::NewStub(channel)),
        prefill(prefill::v1::PrefillService::NewStub(channel)),
        decode(decode::v1::DecodeService::NewStub(channel)),
        channel(channel) {
    channel->GetState(/*try_to_connect=*/true);
  }
  // Or about to be.
  bool IsConnected() const {
    const grpc_connectivity_state state = channel->GetState(/*try_to_connect=*/false);
    return state == GRPC_CHANNEL_READY || state == GRPC_CHANNEL_CONNECTING;
  }
  const std::unique_ptr<vision::v1::VisionService::Stub> vision;
  const std::unique_ptr<prefill::v1::PrefillService::Stub> prefill;
  const std::unique_ptr<decode::v1::DecodeService::Stub> decode;
  const std::shared_ptr<grpc::Channel> channel;
};

GrpcWorkers::GrpcWorkers(Loop& loop, const Credentials& credentials, absl::string_view incarnation,
                         MediaBytes& media)
    : loop_(loop),
      credentials_(credentials),
      incarnation_hex_(absl::BytesToHexString(incarnation)),
      media_(media) {}

// Waits until gRPC has nothing of any call any more.
GrpcWorkers::~GrpcWorkers() { calls_.WaitForAll(); }

absl::StatusOr<std::shared_ptr<GrpcWorkers::Stubs>> GrpcWorkers::StubsOf(const WorkerName& worker) {
  if (const auto place = stubs_.find(worker.address); place != stubs_.end()) return place->second;
  // Whoever comes at a new address may have come instead of somebody who is no more: a connection
  // that does not stand is dropped, and made anew should it be wanted. A call that is open keeps
  // its channel by itself.
  std::erase_if(stubs_, [](const auto& entry) { return !entry.second->IsConnected(); });
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, credentials_.Dial(worker.address));
  return stubs_[worker.address] = std::make_shared<Stubs>(channel);
}

void GrpcWorkers::Prepare(const TraceContext& work, grpc::ClientContext& context) const {
  context.AddMetadata(std::string(kRouterMetadata), incarnation_hex_);
  AddTraceContext(work, context);
}

template <typename Response, typename Start>
std::unique_ptr<Open> GrpcWorkers::OpenStream(const WorkerName& worker, const TraceContext& work,
                                              Told<Response> told, const Start& start) {
  using Call = ClientStream<Response>;
  auto ear = std::make_shared<Ear<Response>>(loop_, std::move(told));
  const absl::StatusOr<std::shared_ptr<Stubs>> stubs = StubsOf(worker);
  if (!stubs.ok()) {
    ear->Tell(absl::UnavailableError(stubs.status().message()));
    return std::make_unique<OpenCall<Response, Call>>(std::move(ear), nullptr);
  }
  std::shared_ptr<Call> call = Call::Start(
      [&](grpc::ClientContext* context, grpc::ClientReadReactor<Response>* reactor) {
        start(**stubs, context, reactor);
      },
      {[ear, token = std::make_shared<OpenCalls::Entry>(calls_)](Response response) {
         ear->Tell(std::move(response));
       },
       [ear](const absl::Status& status) { ear->Tell(status); }},
      [&](grpc::ClientContext& context) { Prepare(work, context); });
  return std::make_unique<OpenCall<Response, Call>>(std::move(ear), std::move(call));
}

std::unique_ptr<Open> GrpcWorkers::PutMedia(const WorkerName& worker, const TraceContext& work,
                                            const common::v1::RequestScope& scope,
                                            const std::string& digest,
                                            std::shared_ptr<const std::string> bytes,
                                            Told<common::v1::MediaInfo> told) {
  auto ear = std::make_shared<Putting::InfoEar>(loop_, std::move(told));
  const absl::StatusOr<std::shared_ptr<Stubs>> stubs = StubsOf(worker);
  if (!stubs.ok()) {
    ear->Tell(absl::UnavailableError(stubs.status().message()));
    return std::make_unique<OpenCall<common::v1::MediaInfo, Putting>>(std::move(ear), nullptr);
  }
  MediaBytes::Held medium;
  if (bytes == nullptr) medium = media_.Find(scope.cache_scope(), digest);
  auto putting = std::make_shared<Putting>(std::make_shared<OpenCalls::Entry>(calls_), ear, digest,
                                           std::move(bytes), std::move(medium));
  putting->Start(*(*stubs)->vision, scope,
                 [&](grpc::ClientContext& context) { Prepare(work, context); });
  return std::make_unique<OpenCall<common::v1::MediaInfo, Putting>>(std::move(ear),
                                                                    std::move(putting));
}

std::unique_ptr<Open> GrpcWorkers::EncodeMedia(const WorkerName& worker, const TraceContext& work,
                                               vision::v1::EncodeMediaRequest request,
                                               Told<vision::v1::EncodeMediaResponse> told) {
  return OpenStream<vision::v1::EncodeMediaResponse>(
      worker, work, std::move(told), [&](Stubs& stubs, auto* context, auto* reactor) {
        stubs.vision->async()->EncodeMedia(context, &request, reactor);
      });
}

std::unique_ptr<Open> GrpcWorkers::PrefillPrompt(const WorkerName& worker, const TraceContext& work,
                                                 prefill::v1::PrefillPromptRequest request,
                                                 Told<prefill::v1::PrefillPromptResponse> told) {
  return OpenStream<prefill::v1::PrefillPromptResponse>(
      worker, work, std::move(told), [&](Stubs& stubs, auto* context, auto* reactor) {
        stubs.prefill->async()->PrefillPrompt(context, &request, reactor);
      });
}

std::unique_ptr<Open> GrpcWorkers::DecodeSequence(const WorkerName& worker,
                                                  const TraceContext& work,
                                                  decode::v1::DecodeSequenceRequest request,
                                                  Told<decode::v1::DecodeSequenceResponse> told) {
  return OpenStream<decode::v1::DecodeSequenceResponse>(
      worker, work, std::move(told), [&](Stubs& stubs, auto* context, auto* reactor) {
        stubs.decode->async()->DecodeSequence(context, &request, reactor);
      });
}

}  // namespace minicpmv::router
