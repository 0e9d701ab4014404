#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <fstream>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "minicpmv/decode/v1/decode_service.grpc.pb.h"
#include "minicpmv/prefill/v1/prefill_service.grpc.pb.h"
#include "runtime/base/check.h"
#include "runtime/engine/local_model.h"
#include "runtime/media/image.h"
#include "runtime/media/slicing.h"
#include "services/common/calls.h"
#include "services/common/engine_room.h"
#include "services/common/incarnation.h"
#include "services/common/links.h"
#include "services/common/model_identity.h"
#include "services/common/server.h"
#include "services/common/transfer_metrics.h"
#include "services/common/transfer_service.h"
#include "services/decode/decode_service.h"
#include "services/prefill/prefill_service.h"
#include "tests/services/common/eventually.h"

namespace minicpmv {

// A value that must be there; the test ends with the status otherwise.
template <typename T>
T Must(absl::StatusOr<T> value) {
  CHECK(value.ok()) << value.status();
  return *std::move(value);
}

inline const std::string& NanoFolder() {
  static const std::string folder = absl::StrCat(MINICPMV_SOURCE_DIR, "/tools/nano/model");
  return folder;
}

inline LocalModelOptions NanoOptions(int stages, int64_t chunk, int64_t pages) {
  LocalModelOptions options;
  options.folder = NanoFolder();
  options.devices.assign(static_cast<size_t>(stages), DeviceSpec{1});
  options.chunk = chunk;
  options.pages = pages;
  options.sequences = 8;
  return options;
}

// A worker process but for the process: prefill and decode over one engine, behind a port.
class EngineWorker {
 public:
  explicit EngineWorker(const std::string& id, int stages = 1, int64_t chunk = 512,
                        int64_t pages = 512)
      : model_(Must(LocalModel::Load(NanoOptions(stages, chunk, pages)))),
        listen_(Must(ListenAddress::Reserve("127.0.0.1:0"))),
        worker_(OptionsOf(id), metrics_),
        transfer_metrics_(metrics_),
        links_(LinksOf(), worker_.landings(), transfer_metrics_),
        transfer_({.worker_id = id,
                   .incarnation = worker_.incarnation(),
                   .layout_fingerprint = model_->layout_fingerprint()},
                  worker_.landings(), transfer_metrics_) {
    worker_.SetLinks(links_);
    room_.emplace(worker_, *model_);
    decode_.emplace(*room_);
    prefill_.emplace(*room_);
    server_ = Must(Server::Start(listen_, {}, {&transfer_, &*decode_, &*prefill_}));
    worker_.SetReady();
    channel_ = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
    decode_stub_ = decode::v1::DecodeService::NewStub(channel_);
    prefill_stub_ = prefill::v1::PrefillService::NewStub(channel_);
  }

  LocalModel& model() { return *model_; }
  Worker& worker() { return worker_; }
  EngineRoom& room() { return *room_; }
  Metrics& metrics() { return metrics_; }
  decode::v1::DecodeService::Stub& decode() { return *decode_stub_; }
  prefill::v1::PrefillService::Stub& prefill() { return *prefill_stub_; }

  // Where a landing of this worker is.
  common::v1::Destination DestinationOf(const common::v1::Landing& landing) {
    common::v1::Destination destination;
    destination.set_worker_id(worker_.id());
    destination.set_address(server_->address());
    *destination.mutable_landing() = landing;
    return destination;
  }

  // Nothing is held by a call: what is cached is counted apart.
  bool IsAtRest() {
    const EngineStats stats = model_->engine().stats();
    return worker_.landings().open() == 0 && worker_.running() == 0 && stats.held_pages == 0 &&
           stats.landing_pages == 0 && stats.running == 0 && stats.landings == 0;
  }
  // The process is gone, as its peers see it.
  void Die() { server_->Shutdown(absl::ZeroDuration()); }

 private:
  WorkerOptions OptionsOf(const std::string& id) const {
    WorkerOptions options;
    options.id = id;
    options.address = listen_.text();
    options.roles = {common::v1::ROLE_PREFILL, common::v1::ROLE_DECODE};
    options.identity = IdentityOf(*model_, "nano");
    return options;
  }
  LinksOptions LinksOf() const {
    LinksOptions options;
    options.worker_id = worker_.id();
    options.incarnation = worker_.incarnation();
    options.layout_fingerprint = model_->layout_fingerprint();
    return options;
  }

  Metrics metrics_;
  std::unique_ptr<LocalModel> model_;
  ListenAddress listen_;
  Worker worker_;
  TransferMetrics transfer_metrics_;
  Links links_;
  TransferService transfer_;
  std::optional<EngineRoom> room_;
  std::optional<DecodeService> decode_;
  std::optional<PrefillService> prefill_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<decode::v1::DecodeService::Stub> decode_stub_;
  std::unique_ptr<prefill::v1::PrefillService::Stub> prefill_stub_;
};

// One open call of a test: its messages in order, then its end.
template <typename Response>
class OpenCall {
 public:
  using Event = std::variant<Response, absl::Status>;
  using Stream = ClientStream<Response>;

  template <typename Start>
  explicit OpenCall(Start start, std::optional<absl::Duration> deadline = std::nullopt)
      : call_(Stream::Start(start,
                            {[told = told_](Response response) { told->Add(std::move(response)); },
                             [told = told_](const absl::Status& status) { told->Add(status); }},
                            [deadline](grpc::ClientContext& context) {
                              if (!deadline) return;
                              context.set_deadline(absl::ToChronoTime(absl::Now() + *deadline));
                            })) {}
  ~OpenCall() { Cancel(); }

  // Blocks; nothing comes only where the test has failed.
  std::optional<Event> Next() { return told_->Next(); }
  // The next message: a call that ends instead fails the test.
  Response NextMessage() {
    std::optional<Event> event = Next();
    CHECK(event.has_value()) << "no message comes";
    CHECK(std::holds_alternative<Response>(*event)) << std::get<absl::Status>(*event);
    return std::get<Response>(*std::move(event));
  }
  // Passes over messages.
  absl::Status End() {
    for (;;) {
      std::optional<Event> event = Next();
      CHECK(event.has_value()) << "no end comes";
      if (std::holds_alternative<absl::Status>(*event)) return std::get<absl::Status>(*event);
    }
  }
  void Cancel() { call_->Cancel(); }

 private:
  const std::shared_ptr<Told<Event>> told_ = std::make_shared<Told<Event>>();
  const std::shared_ptr<Stream> call_;
};
using DecodeOpen = OpenCall<decode::v1::DecodeSequenceResponse>;
using PrefillOpen = OpenCall<prefill::v1::PrefillPromptResponse>;

inline std::unique_ptr<DecodeOpen> Open(EngineWorker& worker,
                                        const decode::v1::DecodeSequenceRequest& request,
                                        std::optional<absl::Duration> deadline = std::nullopt) {
  return std::make_unique<DecodeOpen>(
      [&](grpc::ClientContext* context, auto* reactor) {
        worker.decode().async()->DecodeSequence(context, &request, reactor);
      },
      deadline);
}
inline std::unique_ptr<PrefillOpen> Open(EngineWorker& worker,
                                         const prefill::v1::PrefillPromptRequest& request,
                                         std::optional<absl::Duration> deadline = std::nullopt) {
  return std::make_unique<PrefillOpen>(
      [&](grpc::ClientContext* context, auto* reactor) {
        worker.prefill().async()->PrefillPrompt(context, &request, reactor);
      },
      deadline);
}

// A question to the nano model, and its pictures' rows.
struct Question {
  common::v1::Prompt prompt;
  std::vector<std::vector<uint8_t>> rows;  // of each span
  Shape rows_shape;                        // of one span
  uint32_t max_new_tokens = 24;
  std::string cache_scope = "tenant";
};

inline std::string FileBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  CHECK(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

// Lays out what the router would, and encodes what vision would.
inline Question Ask(LocalModel& model, const std::string& text,
                    const std::vector<std::string>& pictures = {}) {
  SliceRule rule;
  rule.scale_resolution = model.spec().preprocess.scale_resolution;
  rule.patch_size = static_cast<int>(model.spec().vision.patch_size);
  rule.max_slices = model.spec().preprocess.max_slices;
  Message message = {"user", {}};
  std::vector<SlicePlan> plans;
  std::vector<std::vector<Image>> images;
  for (const std::string& name : pictures) {
    const std::string file =
        FileBytes(absl::StrCat(MINICPMV_SOURCE_DIR, "/tools/nano/pictures/", name, ".png"));
    const auto bytes =
        absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(file.data()), file.size());
    const Image image = Must(DecodeImage(bytes, Exif::kApply));
    plans.push_back(Must(PlanSlices({image.width, image.height}, rule)));
    images.push_back(CutSubImages(image, plans.back()));
    message.parts.push_back({"", /*is_image=*/true});
  }
  message.parts.push_back({text});
  const Prompt prompt = Must(model.prompts().Build({&message, 1}, plans, {}));

  Question question;
  question.prompt.mutable_tokens()->Add(prompt.tokens.begin(), prompt.tokens.end());
  question.prompt.set_prompt_tokens(static_cast<uint32_t>(prompt.tokens.size()));
  question.rows_shape = {model.spec().resampler.queries, model.spec().language.hidden};
  for (const Prompt::Span& span : prompt.spans) {
    common::v1::Span& part = *question.prompt.add_spans();
    part.set_first_token(static_cast<uint32_t>(span.first));
    part.set_rows(static_cast<uint32_t>(question.rows_shape[0]));
    std::string digest(32, 'd');
    digest.replace(0, pictures[span.image].size(), pictures[span.image]);
    part.set_media_digest(digest);
    part.mutable_slice()->set_index(static_cast<uint32_t>(span.sub_image));
    std::vector<uint8_t>& rows = question.rows.emplace_back(
        static_cast<size_t>(question.rows_shape.elements()) * SizeOf(model.row_dtype()));
    const TensorView out(rows.data(), model.row_dtype(), question.rows_shape);
    CHECK(Must(model.Vision())
              ->Encode({&images[span.image][span.sub_image], 1}, out, [](int64_t) {})
              .ok());
  }
  return question;
}

// A text that is long enough for several chunks, and of which nothing repeats.
inline std::string LongText(int words) {
  std::string text = "Count these:";
  for (int i = 0; i < words; ++i) absl::StrAppend(&text, " ", i * 37 % 1000);
  return text;
}

// What one process answers.
class Alone final : public SequenceObserver {
 public:
  static std::vector<uint32_t> Answer(LocalModel& model, const Question& question,
                                      const SamplingSettings& sampling) {
    Alone alone;
    SequenceRequest request;
    request.tokens.assign(question.prompt.tokens().begin(), question.prompt.tokens().end());
    request.prompt_tokens = question.prompt.prompt_tokens();
    for (const common::v1::Span& span : question.prompt.spans()) {
      request.spans.push_back({span.first_token(), span.rows(), ""});
    }
    request.sampling = sampling;
    request.sampling.stop_ids = model.prompts().stop_ids();
    const SequenceId id = Must(model.engine().Submit(std::move(request), alone));
    for (size_t i = 0; i < question.rows.size(); ++i) {
      model.engine().ProvideRows(
          id, static_cast<int64_t>(i),
          ConstTensorView(question.rows[i].data(), model.row_dtype(), question.rows_shape));
    }
    const absl::Status ended = alone.ended_.get_future().get();
    CHECK(ended.ok()) << ended;
    return alone.tokens_;
  }
  static std::vector<uint32_t> Answer(LocalModel& model, const Question& question) {
    SamplingSettings sampling;
    sampling.greedy = true;
    sampling.max_new_tokens = question.max_new_tokens;
    sampling.repetition_penalty = model.spec().generation.repetition_penalty;
    return Answer(model, question, sampling);
  }

 private:
  void OnToken(int32_t token) override { tokens_.push_back(static_cast<uint32_t>(token)); }
  void OnEnd(absl::StatusOr<Finish> finish) override { ended_.set_value(finish.status()); }

  std::vector<uint32_t> tokens_;
  std::promise<absl::Status> ended_;
};

inline decode::v1::DecodeSequenceRequest DecodeOf(EngineWorker& worker, const Question& question) {
  decode::v1::DecodeSequenceRequest request;
  request.mutable_scope()->set_request_id("question");
  request.mutable_scope()->set_cache_scope(question.cache_scope);
  *request.mutable_prompt() = question.prompt;
  request.mutable_sampling()->set_greedy(true);
  request.mutable_limits()->set_max_new_tokens(question.max_new_tokens);
  request.set_model_fingerprint(worker.model().model_fingerprint());
  request.set_layout_fingerprint(worker.model().layout_fingerprint());
  return request;
}

inline prefill::v1::PrefillPromptRequest PrefillOf(EngineWorker& worker, const Question& question,
                                                   const common::v1::Destination& destination) {
  prefill::v1::PrefillPromptRequest request;
  request.mutable_scope()->set_request_id("question");
  request.mutable_scope()->set_cache_scope(question.cache_scope);
  *request.mutable_prompt() = question.prompt;
  *request.mutable_destination() = destination;
  request.set_model_fingerprint(worker.model().model_fingerprint());
  request.set_layout_fingerprint(worker.model().layout_fingerprint());
  return request;
}

// A process beside the workers that sends what it likes, as vision does.
class Sender {
 public:
  explicit Sender(const std::string& layout_fingerprint)
      : landings_(DrawIncarnation()), links_(OptionsOf(layout_fingerprint), landings_, observer_) {}

  // The ticket of a parcel.
  absl::Status Send(const common::v1::Destination& destination, Parcel parcel) {
    parcel.label.landing = Must(LandingNameOf(destination));
    const auto ended = std::make_shared<std::promise<absl::Status>>();
    std::future<absl::Status> future = ended->get_future();
    Must(links_.To(destination))->Send(std::move(parcel), [ended](const absl::Status& status) {
      ended->set_value(status);
    });
    CHECK(future.wait_for(std::chrono::seconds(20)) == std::future_status::ready);
    return future.get();
  }

  // Rows [first, first + count) of a span.
  static Parcel RowsOf(const Question& question, DType dtype, int64_t span, int64_t first,
                       int64_t count) {
    const ConstTensorView rows(question.rows[span].data(), dtype, question.rows_shape);
    Parcel parcel;
    parcel.label.kind = ParcelKind::kRows;
    parcel.label.index = span;
    parcel.label.first = first;
    parcel.label.count = count;
    parcel.label.dtype = dtype;
    parcel.content.push_back(rows.Rows(first, count));
    parcel.label.bytes = parcel.content[0].bytes();
    return parcel;
  }

 private:
  LinksOptions OptionsOf(const std::string& layout_fingerprint) const {
    LinksOptions options;
    options.worker_id = "sender";
    options.incarnation = landings_.incarnation();
    options.layout_fingerprint = layout_fingerprint;
    return options;
  }

  LinkObserver observer_;
  Landings landings_;
  Links links_;
};

// All that came of one question.
struct Answer {
  std::vector<uint32_t> tokens;
  decode::v1::Ending ending;
  absl::Status status;  // of the decode call
  int64_t decode_held = 0, prefill_held = 0;
  bool prefilled = false;
  std::vector<prefill::v1::PrefillProgress> progress;
  common::v1::Bill prefill_bill;
};

// Takes in what a decode call still brings.
inline void Receive(DecodeOpen& call, Answer& answer) {
  for (;;) {
    const auto event = call.Next();
    CHECK(event.has_value()) << "a decode call brings nothing";
    if (const auto* status = std::get_if<absl::Status>(&*event)) {
      answer.status = *status;
      return;
    }
    const auto& response = std::get<decode::v1::DecodeSequenceResponse>(*event);
    if (response.has_ending()) {
      answer.ending = response.ending();
      continue;
    }
    CHECK(response.has_tokens()) << response.DebugString();
    answer.tokens.insert(answer.tokens.end(), response.tokens().tokens().begin(),
                         response.tokens().tokens().end());
  }
}

// What a router does with a question, without its care for failures.
inline Answer AskThrough(EngineWorker& prefill, EngineWorker& decode, Sender& sender,
                         const Question& question) {
  Answer answer;
  const auto decoding = Open(decode, DecodeOf(decode, question));
  const common::v1::Landing landing = decoding->NextMessage().landing();
  answer.decode_held = landing.held_tokens();
  if (answer.decode_held < question.prompt.tokens_size() - 1) {
    answer.prefilled = true;
    const auto filling = Open(prefill, PrefillOf(prefill, question, decode.DestinationOf(landing)));
    const common::v1::Landing rows = filling->NextMessage().landing();
    answer.prefill_held = rows.held_tokens();
    const int64_t count = question.rows_shape.rank() > 0 ? question.rows_shape[0] : 0;
    for (size_t i = question.rows.size(); i-- > 0;) {  // any order will do
      const common::v1::Span& span = question.prompt.spans(static_cast<int>(i));
      if (span.first_token() + span.rows() <= rows.held_tokens()) continue;
      for (const int64_t first : {count / 2, int64_t{0}}) {
        const absl::Status sent = sender.Send(
            prefill.DestinationOf(rows),
            Sender::RowsOf(question, prefill.model().row_dtype(), static_cast<int64_t>(i), first,
                           first == 0 ? count / 2 : count - count / 2));
        CHECK(sent.ok()) << sent;
      }
    }
    bool is_done = false;
    for (;;) {
      const auto event = filling->Next();
      CHECK(event.has_value()) << "a prefill call brings nothing";
      if (const auto* status = std::get_if<absl::Status>(&*event)) {
        CHECK(status->ok() && is_done) << *status;
        break;
      }
      const auto& response = std::get<prefill::v1::PrefillPromptResponse>(*event);
      CHECK(!is_done);
      is_done = response.has_done();
      if (is_done) answer.prefill_bill = response.done().bill();
      if (response.has_progress()) answer.progress.push_back(response.progress());
    }
  }
  Receive(*decoding, answer);
  return answer;
}

}  // namespace minicpmv
