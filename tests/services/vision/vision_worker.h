#pragma once

#include <grpcpp/grpcpp.h>

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "minicpmv/vision/v1/vision_service.grpc.pb.h"
#include "runtime/engine/local_model.h"
#include "runtime/model/slice_rule.h"
#include "services/common/calls.h"
#include "services/common/links.h"
#include "services/common/model_identity.h"
#include "services/common/server.h"
#include "services/common/transfer_metrics.h"
#include "services/common/transfer_service.h"
#include "services/vision/encode_request.h"
#include "services/vision/vision_service.h"
#include "tests/services/common/eventually.h"
#include "tests/services/vision/pictures.h"

namespace minicpmv {

inline std::unique_ptr<LocalModel> NanoTower() {
  LocalModelOptions options;
  options.folder = absl::StrCat(MINICPMV_SOURCE_DIR, "/tools/nano/model");
  options.parts = {.text = false, .decoder = false, .head = false};
  options.devices = {DeviceSpec{1}};
  return Must(LocalModel::Load(options));
}

// What every worker process has, but for the process: a port, links, landings.
class PlainWorker {
 public:
  PlainWorker(const std::string& id, const LocalModel& model)
      : listen_(Must(ListenAddress::Reserve("127.0.0.1:0"))),
        worker_(OptionsOf(id, model), metrics_),
        transfer_metrics_(metrics_),
        links_(LinksOf(model), worker_.landings(), transfer_metrics_),
        transfer_({.worker_id = id,
                   .incarnation = worker_.incarnation(),
                   .layout_fingerprint = model.layout_fingerprint()},
                  worker_.landings(), transfer_metrics_) {
    worker_.SetLinks(links_);
  }

  void Answer(std::vector<grpc::Service*> services) {
    services.push_back(&transfer_);
    server_ = Must(Server::Start(listen_, {}, services));
    worker_.SetReady();
    channel_ = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
  }
  // Before the services end.
  void Stop() { server_.reset(); }

  Worker& worker() { return worker_; }
  Metrics& metrics() { return metrics_; }
  Links& links() { return links_; }
  const std::shared_ptr<grpc::Channel>& channel() { return channel_; }

  common::v1::Destination DestinationOf(uint64_t slot) {
    common::v1::Destination destination;
    destination.set_worker_id(worker_.id());
    destination.set_address(listen_.text());
    const Incarnation& incarnation = worker_.incarnation();
    destination.mutable_landing()->set_incarnation(incarnation.data(), incarnation.size());
    destination.mutable_landing()->set_slot(slot);
    return destination;
  }

 private:
  WorkerOptions OptionsOf(const std::string& id, const LocalModel& model) const {
    WorkerOptions options;
    options.id = id;
    options.address = listen_.text();
    options.roles = {common::v1::ROLE_VISION};
    options.identity = IdentityOf(model, "nano");
    return options;
  }
  LinksOptions LinksOf(const LocalModel& model) const {
    LinksOptions options;
    options.worker_id = worker_.id();
    options.incarnation = worker_.incarnation();
    options.layout_fingerprint = model.layout_fingerprint();
    return options;
  }

  Metrics metrics_;
  ListenAddress listen_;
  Worker worker_;
  TransferMetrics transfer_metrics_;
  Links links_;
  TransferService transfer_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

// Lets batches through one by one, when it is asked to; the rows are the tower's.
class Gate final : public vision::SliceEncoder {
 public:
  explicit Gate(std::unique_ptr<vision::SliceEncoder> inner) : inner_(std::move(inner)) {}

  absl::Status Encode(absl::Span<const Image* const> slices,
                      absl::Span<const TensorView> rows) override {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      ++begun_;
      changed_.notify_all();
      changed_.wait_for(lock, std::chrono::seconds(20), [&] { return begun_ <= allowed_; });
    }
    return inner_->Encode(slices, rows);
  }
  void Allow(int64_t batches) {
    const std::lock_guard<std::mutex> lock(mutex_);
    allowed_ += batches;
    changed_.notify_all();
  }
  int64_t begun() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return begun_;
  }

 private:
  const std::unique_ptr<vision::SliceEncoder> inner_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t begun_ = 0, allowed_ = 0;
};

// A vision worker over the nano model.
class VisionWorker {
 public:
  // With a gate that is `gated`, nothing is encoded before it is let through.
  explicit VisionWorker(const std::string& id, bool gated = false, VisionOptions options = {})
      : model_(NanoTower()), plain_(id, *model_) {
    VisionEncoder* const tower = Must(model_->Vision());
    auto gate = std::make_unique<Gate>(std::make_unique<vision::TowerEncoder>(
        *tower, model_->spec(), model_->first_device(), *Must(model_->VisionKernels())));
    gate_ = gate.get();
    if (!gated) gate_->Allow(1 << 20);
    service_ = Must(VisionService::Create(plain_.worker(), *model_, options, std::move(gate)));
    plain_.Answer({service_.get()});
    stub_ = vision::v1::VisionService::NewStub(plain_.channel());
  }
  ~VisionWorker() {
    gate_->Allow(1 << 20);
    plain_.Stop();
  }

  LocalModel& model() { return *model_; }
  Worker& worker() { return plain_.worker(); }
  PlainWorker& plain() { return plain_; }
  VisionService& service() { return *service_; }
  vision::v1::VisionService::Stub& stub() { return *stub_; }
  Gate& gate() { return *gate_; }
  double slices() { return metric("minicpmv_slices_total"); }
  double metric(const std::string& name) { return plain_.metrics().Counter(name, "").Value(); }

  // No call holds anything; what is cached does not count.
  bool IsAtRest() {
    return worker().landings().open() == 0 && worker().running() == 0 &&
           service_->media().held_bytes() == 0 && service_->queue().rows().held_bytes() == 0 &&
           service_->queue().load().outstanding_slices == 0;
  }

 private:
  const std::unique_ptr<LocalModel> model_;
  PlainWorker plain_;
  Gate* gate_ = nullptr;  // the service's
  std::unique_ptr<VisionService> service_;
  std::unique_ptr<vision::v1::VisionService::Stub> stub_;
};

// Stands where a prefill worker would: one landing that takes the rows of any span.
class RowsReceiver final : public Landing {
 public:
  explicit RowsReceiver(const LocalModel& model)
      : plain_("receiver", model),
        row_bytes_(static_cast<size_t>(model.spec().language.hidden) * SizeOf(model.row_dtype())),
        span_bytes_(static_cast<size_t>(model.spec().resampler.queries) * row_bytes_) {
    plain_.Answer({});
    slot_ = plain_.worker().landings().Open(*this).slot;
  }
  ~RowsReceiver() override {
    plain_.Stop();
    CloseLanding();
  }

  common::v1::Destination destination() { return plain_.DestinationOf(slot_); }
  PlainWorker& plain() { return plain_; }
  // The call that it belongs to has ended.
  void CloseLanding() {
    if (slot_ != 0) plain_.worker().landings().Close(std::exchange(slot_, 0), [] {});
  }
  std::map<int64_t, std::string> rows() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return rows_;
  }

  absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (label.kind != ParcelKind::kRows || label.bytes != label.count * row_bytes_) {
      return absl::InvalidArgumentError("no rows");
    }
    std::string& rows = rows_[label.index];
    rows.resize(span_bytes_);
    CHECK_LE((label.first + label.count) * row_bytes_, span_bytes_);
    return std::vector<TensorView>{TensorView(rows.data() + label.first * row_bytes_, DType::kU8,
                                              Shape{static_cast<int64_t>(label.bytes)})};
  }
  void Landed(const ParcelLabel&, const absl::Status&) override {}

 private:
  PlainWorker plain_;
  const size_t row_bytes_, span_bytes_;
  uint64_t slot_ = 0;
  std::mutex mutex_;
  std::map<int64_t, std::string> rows_;
};

// Rows of every sub-image of a picture, one by one, in one process.
inline std::vector<std::string> PlainRows(LocalModel& model, const std::string& bytes) {
  const Image image = Must(DecodeImage(SpanOf(bytes), Exif::kApply));
  const SlicePlan plan = Must(PlanSlices({image.width, image.height}, SliceRuleOf(model.spec())));
  VisionEncoder* const tower = Must(model.Vision());
  std::vector<std::string> rows;
  for (const Image& sub_image : CutSubImages(image, plan)) {
    const Shape shape = {model.spec().resampler.queries, model.spec().language.hidden};
    std::string made(static_cast<size_t>(shape.elements()) * SizeOf(model.row_dtype()), '\0');
    const TensorView out(made.data(), model.row_dtype(), shape);
    CHECK(tower->Encode({&sub_image, 1}, out, [](int64_t) {}).ok());
    rows.push_back(std::move(made));
  }
  return rows;
}

// What came of a PutMedia call: its responses in order, then its end.
struct PutResult {
  std::vector<vision::v1::PutMediaResponse> responses;
  absl::Status status;
};

using PutClient = ClientBidi<vision::v1::PutMediaRequest, vision::v1::PutMediaResponse>;
using PutEvent = std::variant<vision::v1::PutMediaResponse, absl::Status>;

inline std::shared_ptr<PutClient> OpenPut(VisionWorker& worker, Told<PutEvent>& told) {
  return PutClient::Start(
      [&](auto* context, auto* reactor) { worker.stub().async()->PutMedia(context, reactor); },
      {[&](vision::v1::PutMediaResponse response) { told.Add(std::move(response)); },
       [&](const absl::Status& status) { told.Add(status); }});
}

inline vision::v1::PutMediaRequest OfferOf(const std::string& bytes, const std::string& scope) {
  vision::v1::PutMediaRequest request;
  request.mutable_offer()->mutable_scope()->set_request_id("put");
  request.mutable_offer()->mutable_scope()->set_cache_scope(scope);
  request.mutable_offer()->set_digest(DigestOf(bytes));
  request.mutable_offer()->set_size(bytes.size());
  return request;
}

inline vision::v1::PutMediaRequest ChunkOf(uint64_t offset, absl::string_view data) {
  vision::v1::PutMediaRequest request;
  request.mutable_chunk()->set_offset(offset);
  request.mutable_chunk()->set_data(std::string(data));
  return request;
}

// Sends all of `requests` and waits for the end.
inline PutResult Put(VisionWorker& worker,
                     const std::vector<vision::v1::PutMediaRequest>& requests) {
  Told<PutEvent> told;
  const std::shared_ptr<PutClient> call = OpenPut(worker, told);
  for (const vision::v1::PutMediaRequest& request : requests) call->Send(request);
  call->SendLast();
  PutResult result;
  while (std::optional<PutEvent> event = told.Next()) {
    if (const auto* const status = std::get_if<absl::Status>(&*event)) {
      result.status = *status;
      return result;
    }
    result.responses.push_back(std::get<vision::v1::PutMediaResponse>(*std::move(event)));
  }
  result.status = absl::InternalError("the call does not end");
  return result;
}

inline PutResult Put(VisionWorker& worker, const std::string& bytes,
                     const std::string& scope = "tenant") {
  std::vector<vision::v1::PutMediaRequest> requests = {OfferOf(bytes, scope)};
  for (size_t i = 0; i < bytes.size(); i += vision::kMaxChunkBytes) {
    requests.push_back(ChunkOf(i, absl::string_view(bytes).substr(i, vision::kMaxChunkBytes)));
  }
  return Put(worker, requests);
}

// One EncodeMedia call, as its caller sees it.
class EncodeClient {
 public:
  EncodeClient(VisionWorker& worker, const vision::v1::EncodeMediaRequest& request) {
    call_ = ClientStream<vision::v1::EncodeMediaResponse>::Start(
        [&](auto* context, auto* reactor) {
          worker.stub().async()->EncodeMedia(context, &request, reactor);
        },
        {[this](vision::v1::EncodeMediaResponse response) { told_.Add(std::move(response)); },
         [this](const absl::Status& status) { told_.Add(status); }});
  }
  ~EncodeClient() {
    call_->Cancel();
    EXPECT_TRUE(!End().ok() || bill_.has_value());
  }

  void Cancel() { call_->Cancel(); }
  // The first response; fails the test if it is no landing.
  common::v1::Landing Landing() {
    std::optional<Event> event = told_.Next();
    const auto* const response =
        event ? std::get_if<vision::v1::EncodeMediaResponse>(&*event) : nullptr;
    if (response == nullptr || !response->has_landing()) {
      if (event && response == nullptr) end_ = std::get<absl::Status>(*event);
      ADD_FAILURE() << "no landing" << (end_ ? end_->ToString() : "");
      return {};
    }
    return response->landing();
  }
  // Waits for the end and keeps what comes before.
  absl::Status End() {
    while (!end_) {
      std::optional<Event> event = told_.Next();
      if (!event) return absl::InternalError("the call does not end");
      if (const auto* const status = std::get_if<absl::Status>(&*event)) {
        end_ = *status;
        break;
      }
      const auto& response = std::get<vision::v1::EncodeMediaResponse>(*event);
      if (response.has_done()) bill_ = response.done().bill();
      if (response.has_slice()) {
        if (bill_) ADD_FAILURE() << "a slice after the end";
        steps_.insert({response.slice().span_index(), response.slice().step()});
      }
    }
    return *end_;
  }
  // After End.
  const std::optional<common::v1::Bill>& bill() const { return bill_; }
  const std::multiset<std::pair<uint32_t, int>>& steps() const { return steps_; }

 private:
  using Event = std::variant<vision::v1::EncodeMediaResponse, absl::Status>;
  Told<Event> told_;
  std::shared_ptr<ClientStream<vision::v1::EncodeMediaResponse>> call_;
  std::optional<absl::Status> end_;
  std::optional<common::v1::Bill> bill_;
  std::multiset<std::pair<uint32_t, int>> steps_;
};

// The span of every sub-image of a picture, numbered from `first_index`.
inline std::vector<vision::v1::IndexedSpan> SpansOf(const LocalModel& model,
                                                    const std::string& bytes,
                                                    uint32_t first_index = 0) {
  const ImageInfo info = Must(ProbeImage(SpanOf(bytes), Exif::kApply));
  const SlicePlan plan = Must(PlanSlices({info.width, info.height}, SliceRuleOf(model.spec())));
  std::vector<vision::v1::IndexedSpan> spans;
  for (int i = 0; i < plan.sub_images(); ++i) {
    vision::v1::IndexedSpan& indexed = spans.emplace_back();
    indexed.set_index(first_index + static_cast<uint32_t>(i));
    common::v1::Span& span = *indexed.mutable_span();
    span.set_first_token(static_cast<uint32_t>(10 + 20 * i));
    span.set_rows(static_cast<uint32_t>(model.spec().resampler.queries));
    span.set_media_digest(DigestOf(bytes));
    common::v1::Slice& slice = *span.mutable_slice();
    slice.set_grid_columns(static_cast<uint32_t>(plan.grid_columns));
    slice.set_grid_rows(static_cast<uint32_t>(plan.grid_rows));
    slice.set_index(static_cast<uint32_t>(i));
    slice.set_patch_columns(static_cast<uint32_t>(plan.patches(i).columns));
    slice.set_patch_rows(static_cast<uint32_t>(plan.patches(i).rows));
  }
  return spans;
}

// For all slices of a picture that the worker holds.
inline vision::v1::EncodeMediaRequest EncodeRequestOf(const LocalModel& model,
                                                      const std::string& bytes,
                                                      const common::v1::Destination& destination,
                                                      const std::string& request_id = "request") {
  vision::v1::EncodeMediaRequest request;
  request.mutable_scope()->set_request_id(request_id);
  request.mutable_scope()->set_cache_scope("tenant");
  request.set_media_digest(DigestOf(bytes));
  for (const vision::v1::IndexedSpan& span : SpansOf(model, bytes)) *request.add_spans() = span;
  *request.mutable_destination() = destination;
  request.mutable_held();
  request.set_model_fingerprint(model.model_fingerprint());
  return request;
}

}  // namespace minicpmv
