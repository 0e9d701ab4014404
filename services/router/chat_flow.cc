#include "services/router/chat_flow.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"
#include "runtime/base/tracing.h"
#include "services/common/fleet_names.h"
#include "services/common/status_proto.h"
#include "services/router/reply_settings.h"

namespace minicpmv::router {
namespace {

// How long a reply that has ended waits for the bills of its stages.
constexpr absl::Duration kBillsMayTake = absl::Milliseconds(500);
constexpr absl::Duration kShortestPause = absl::Milliseconds(20), kLongestPause = absl::Seconds(1);

constexpr int64_t kMaxSparePages = 1 << 20;

// Of a reply's tokens so many are reckoned with until it is known how many there are.
constexpr int64_t kExpectedTokens = 256;
// A generated token weighs as much as so many of a prompt, which are computed many at a time.
constexpr double kGeneratedWeight = 2;

RequestClass ClassOf(const ChatRequest& request) {
  return request.media.empty() ? RequestClass::kText : RequestClass::kImage;
}

// The first time at once, then slower and slower.
absl::Duration PauseAfter(int failures) {
  if (failures <= 1) return absl::ZeroDuration();
  return std::min(kShortestPause * (1 << std::min(failures - 2, 10)), kLongestPause);
}

int64_t BytesPerToken(const ModelSpec& spec) {
  const LanguageSpec& language = spec.language;
  return 2 * language.layers * language.kv_heads * language.head_size *
         static_cast<int64_t>(SizeOf(spec.dtype));
}

// What no other worker would take either.
bool IsTheRequestsFault(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsOutOfRange(status) ||
         absl::IsUnimplemented(status);
}

absl::Status GiveUp(const absl::Status& status) {
  absl::Status end(
      absl::IsResourceExhausted(status) ? status.code() : absl::StatusCode::kUnavailable,
      absl::StrCat("workers failed again and again; the last one: ", status.message()));
  return WithRetryAfter(std::move(end), kLongestPause);
}

}  // namespace

ChatFlow::ChatFlow(const FlowGround& ground, ChatRequest request, std::string request_id,
                   uint64_t seed, ReplySink& sink, std::function<void(const absl::Status&)> done)
    : ground_(ground),
      request_(std::move(request)),
      request_id_(std::move(request_id)),
      seed_(seed),
      work_{request_id_, request_.trace.empty() ? NewTrace() : request_.trace},
      sink_(sink),
      done_(std::move(done)),
      arrival_(ground.loop.Now()),
      tenant_(ground.options.tenants.TenantOf(request_.cache_scope)),
      signal_(ground.loop),
      bill_(arrival_),
      media_(request_, scope_, ground.workers, {ground.loop, ground.fleet, signal_, work_}, failed_,
             bill_) {
  scope_.set_request_id(request_id_);
  scope_.set_cache_scope(request_.cache_scope);
}

ChatFlow::~ChatFlow() {
  LeaveQueue();
  if (!has_told_trace_) TellTrace("given up");
}

void ChatFlow::Start() {
  life_ = Live();
  life_->Start();
}

Task<bool> ChatFlow::Live() {
  const absl::Status status = co_await Run();
  CloseCalls();
  LeaveQueue();
  TellTrace(status.ok() ? "" : absl::StatusCodeToString(status.code()));
  done_(status);
  co_return true;
}

Task<absl::Status> ChatFlow::Run() {
  if (const absl::Status begun = Begin(); !begun.ok()) co_return begun;
  bool is_planned = false;
  while (!IsOver()) {
    const absl::Status home = co_await BringMediaHome();
    if (!home.ok()) co_return home;
    if (!is_planned) {
      if (const absl::Status planned = Plan(); !planned.ok()) co_return planned;
      is_planned = true;
      if (IsOver()) break;  // a resumption had everything already
    }
    const absl::Status placed = co_await WaitForPlace();
    if (!placed.ok()) co_return placed;
    const absl::Time begin = ground_.loop.Now();
    const std::optional<CallFailure> failure = co_await Attempt();
    TracePart(TraceRow::kStage, failure ? "failed attempt" : "attempt", begin, kNow, work_);
    bill_.CloseSteps(/*has_bill=*/false);
    if (!failure) break;
    NoteUnreached(*failure);
    CloseCalls();
    CheckEnd();
    if (IsOver()) break;  // only its ending was missing
    if (const absl::Status judged = Judge(*failure); !judged.ok()) co_return judged;
    co_await Pause(PauseAfter(std::max(failovers_, refusals_)));
  }
  Finish();
  co_return absl::OkStatus();
}

absl::Status ChatFlow::Begin() {
  const std::string& model = request_.request.model();
  if (!model.empty() && model != ground_.model.name()) {
    return absl::NotFoundError(
        absl::StrCat("there is no model ", Quoted(model), " here, only ", ground_.model.name()));
  }
  ASSIGN_OR_RETURN(ReplyWriter writer, ReplyWriter::Create(request_.request, ground_.model, sink_));
  writer_.emplace(std::move(writer));
  RETURN_IF_ERROR(ground_.quotas.Check(tenant_));
  ASSIGN_OR_RETURN(place_, ground_.queue.Enter(ClassOf(request_), tenant_, request_.deadline));
  ground_.quotas.Use(tenant_, Quotas::kRequests, 1);
  return absl::OkStatus();
}

Task<absl::Status> ChatFlow::BringMediaHome() {
  const absl::Time begin = ground_.loop.Now();
  while (!media_.AreHome()) {
    if (const absl::Status opened = media_.OpenPuts(); absl::IsUnavailable(opened)) {
      // Until a vision worker comes.
      place_status_.reset();
      place_->Wait(/*work=*/0, [this] { return TryHomes(); });
      co_await signal_.Until([this] { return place_status_.has_value(); });
      if (!place_status_->ok()) co_return *place_status_;
      continue;
    }
    co_await signal_.Until([this] { return media_.HasNews(); });
    const int failures = media_.failures();
    if (const absl::Status taken = media_.TakeNews(); !taken.ok()) co_return taken;
    if (media_.failures() == failures) continue;
    if (media_.failures() > ground_.options.failovers) co_return GiveUp(media_.last_failure());
    co_await Pause(PauseAfter(media_.failures()));
  }
  if (!request_.media.empty()) {
    TracePart(TraceRow::kStage, "media", begin, kNow, work_);
  }
  co_return absl::OkStatus();
}

bool ChatFlow::TryHomes() {
  if (!ground_.fleet.MissingSince(common::v1::ROLE_VISION)) {
    place_status_ = absl::OkStatus();
  } else if (const absl::Status roles = CheckRoles(); !roles.ok()) {
    place_status_ = roles;
  }
  if (place_status_) signal_.Notify();
  return place_status_.has_value();
}

absl::Status ChatFlow::Plan() {
  const std::vector<common::v1::MediaInfo> infos = media_.infos();
  ASSIGN_OR_RETURN(plan_, PlanRequest(request_, infos, ground_.model));
  limits_ = LimitsOf(request_.request.options(), ground_.model, plan_.prompt.tokens_size());
  ground_.quotas.Use(tenant_, Quotas::kTokens, plan_.prompt.tokens_size());
  double pixels = 0;
  for (const common::v1::MediaInfo& info : infos) {
    pixels += static_cast<double>(info.width()) * static_cast<double>(info.height());
  }
  ground_.quotas.Use(tenant_, Quotas::kPixels, pixels);
  CheckEnd();
  return absl::OkStatus();
}

Task<absl::Status> ChatFlow::WaitForPlace() {
  const absl::Time begin = ground_.loop.Now();
  place_status_.reset();
  const int64_t new_tokens = std::min<int64_t>(limits_.max_new_tokens(), kExpectedTokens);
  place_->Wait(WorkOf(new_tokens), [this] { return TryPlace(); });
  co_await signal_.Until([this] { return place_status_.has_value(); });
  const absl::Time end = ground_.loop.Now();
  if (place_status_->ok()) bill_.Add(common::v1::WORK_QUEUE, begin, end);
  TracePart(TraceRow::kStage, "queue", begin, end, work_);
  co_return *place_status_;
}

bool ChatFlow::TryPlace() {
  const absl::Time begin = ground_.loop.Now();
  Job job;
  job.tokens = TokensSoFar();
  job.new_tokens =
      int64_t{limits_.max_new_tokens()} - static_cast<int64_t>(writer_->tokens().size());
  job.bytes_per_token = BytesPerToken(ground_.model.spec());
  job.spare_pages = spare_pages_;
  job.has_media = plan_.prompt.spans_size() > 0;
  job.beginning = plan_.beginning;
  job.numerics_class = numerics_class_;
  job.failed = failed_;
  const absl::StatusOr<Placement> placed = Place(job, ground_.fleet.Snapshot());
  const absl::Time end = ground_.loop.Now();
  ground_.watch.OnPlaced(end - begin);
  if (placed.ok()) {
    const CallGround calls = {ground_.loop, ground_.fleet, signal_, work_};
    decode_ = std::make_unique<WorkerCall<decode::v1::DecodeSequenceResponse>>(
        calls, placed->decode, common::v1::ROLE_DECODE, placed->decode_work);
    prefill_ = std::make_unique<WorkerCall<prefill::v1::PrefillPromptResponse>>(
        calls, placed->prefill, common::v1::ROLE_PREFILL, placed->prefill_work);
    present_class_ = placed->numerics_class;
    TracePart(TraceRow::kStage, "place", begin, end, work_,
              {{"prefill", placed->prefill.id}, {"decode", placed->decode.id}});
    place_->LetIn();
    place_status_ = absl::OkStatus();
  } else if (absl::IsUnavailable(placed.status())) {
    if (const absl::Status roles = CheckRoles(); !roles.ok()) place_status_ = roles;
  } else if (!absl::IsResourceExhausted(placed.status())) {
    place_status_ = placed.status();
  }
  if (place_status_) signal_.Notify();
  return place_status_.has_value();
}

absl::Status ChatFlow::CheckRoles() const {
  const absl::Time oldest = ground_.loop.Now() - ground_.options.settle;
  for (const common::v1::Role role : kRoles) {
    if (role == common::v1::ROLE_VISION && request_.media.empty()) continue;
    const std::optional<absl::Time> since = ground_.fleet.MissingSince(role);
    if (!since || *since > oldest) continue;
    ground_.watch.OnRejected("ROLE_MISSING");
    return WithReason(
        absl::UnavailableError(absl::StrCat("no ", minicpmv::NameOf(role), " worker is ready")),
        "ROLE_MISSING");
  }
  return absl::OkStatus();
}

Task<std::optional<CallFailure>> ChatFlow::Attempt() {
  if (!std::exchange(has_started_, true)) {
    writer_->Start(request_id_, ground_.model.name(), seed_);
  }
  BeginDecode();
  co_await signal_.Until([this] { return decode_->has_news(); });
  if (!decode_->has_message()) co_return decode_->Failure();
  const decode::v1::DecodeSequenceResponse first = decode_->Take();
  if (!first.has_landing()) {
    co_return decode_->Failure(absl::InternalError("a decode worker granted no landing"));
  }

  if (first.landing().held_tokens() + 1 >= TokensSoFar()) {
    NoteCached(first.landing().held_tokens());
    prefill_ = nullptr;
  } else {
    BeginPrefill(first.landing());
    co_await signal_.Until([this] { return prefill_->has_news() || decode_->has_ended(); });
    // Prefill, decode and all of a short reply may have been done while this thread was busy.
    const bool is_decoded = decode_->has_ended() && decode_->has_message();
    if (decode_->has_ended() && !is_decoded) co_return decode_->Failure();
    if (!prefill_->has_message() && !is_decoded) co_return prefill_->Failure();
    if (prefill_->has_message()) {
      const prefill::v1::PrefillPromptResponse granted = prefill_->Take();
      if (!granted.has_landing()) {
        co_return prefill_->Failure(absl::InternalError("a prefill worker granted no landing"));
      }
      NoteCached(granted.landing().held_tokens());
      if (!is_decoded) BeginEncoding(granted.landing());
    }
  }

  while (true) {
    // What decode says comes first: where it is lost, others only complain that they cannot reach
    // it.
    if (std::optional<CallFailure> failure = TakeDecode()) co_return failure;
    if (IsOver()) break;
    if (std::optional<CallFailure> failure = TakePrefill()) co_return failure;
    if (std::optional<CallFailure> failure = TakeEncoding()) co_return failure;
    co_await signal_.Until([this] { return HasNews(); });
  }
  decode_ = nullptr;
  co_await AwaitBills();
  co_return std::nullopt;
}

void ChatFlow::BeginDecode() {
  decode::v1::DecodeSequenceRequest request;
  *request.mutable_scope() = scope_;
  *request.mutable_prompt() = PromptSoFar();
  *request.mutable_sampling() = SamplingOf(request_.request.options(), seed_);
  *request.mutable_limits() = limits_;
  request.set_model_fingerprint(ground_.fleet.model_fingerprint());
  request.set_layout_fingerprint(ground_.fleet.layout_fingerprint());
  decode_->Begin("DecodeSequence",
                 [&](const TraceContext& work, Told<decode::v1::DecodeSequenceResponse> told) {
                   return ground_.workers.DecodeSequence(decode_->worker(), work,
                                                         std::move(request), std::move(told));
                 });
}

void ChatFlow::BeginPrefill(const common::v1::Landing& decode) {
  prefill::v1::PrefillPromptRequest request;
  *request.mutable_scope() = scope_;
  *request.mutable_prompt() = PromptSoFar();
  common::v1::Destination& destination = *request.mutable_destination();
  destination.set_worker_id(decode_->worker().id);
  destination.set_address(decode_->worker().address);
  *destination.mutable_landing() = decode;
  request.set_model_fingerprint(ground_.fleet.model_fingerprint());
  request.set_layout_fingerprint(ground_.fleet.layout_fingerprint());
  prefill_->Begin("PrefillPrompt",
                  [&](const TraceContext& work, Told<prefill::v1::PrefillPromptResponse> told) {
                    return ground_.workers.PrefillPrompt(prefill_->worker(), work,
                                                         std::move(request), std::move(told));
                  });
}

void ChatFlow::BeginEncoding(const common::v1::Landing& prefill) {
  std::vector<MediumToEncode> media;
  for (int i = 0; i < plan_.prompt.spans_size(); ++i) {
    const common::v1::Span& span = plan_.prompt.spans(i);
    // What lies wholly within the tokens that prefill holds is not needed again.
    if (uint64_t{span.first_token()} + span.rows() <= prefill.held_tokens()) continue;
    auto found = std::find_if(media.begin(), media.end(), [&](const MediumToEncode& other) {
      return other.digest == span.media_digest();
    });
    if (found == media.end()) {
      const size_t medium = plan_.medium_of_span[static_cast<size_t>(i)];
      media.push_back({span.media_digest(), {media_.HomeOfMedium(medium), {}}});
      found = std::prev(media.end());
    }
    found->slices.spans.push_back(static_cast<uint32_t>(i));
  }
  if (media.empty()) return;
  common::v1::Destination destination;
  destination.set_worker_id(prefill_->worker().id);
  destination.set_address(prefill_->worker().address);
  *destination.mutable_landing() = prefill;
  encoding_ = std::make_unique<Encoding>(
      EncodingGround{ground_.workers, CallGround{ground_.loop, ground_.fleet, signal_, work_},
                     scope_, plan_.prompt, std::move(destination)},
      std::move(media), failed_, bill_);
}

std::optional<CallFailure> ChatFlow::TakeDecode() {
  while (!IsOver() && decode_->has_message()) {
    const decode::v1::DecodeSequenceResponse message = decode_->Take();
    if (message.has_tokens()) {
      if (std::optional<CallFailure> failure = TakeTokens(message.tokens())) return failure;
    } else if (message.has_ending()) {
      const decode::v1::Ending& ending = message.ending();
      if (ending.new_tokens() != writer_->tokens().size()) {
        return decode_->Failure(absl::InternalError("a decode worker has lost count of tokens"));
      }
      bill_.Add(decode_->began(), ending.bill());
      bill_.CloseSteps(/*has_bill=*/true);
      finish_reason_ = ending.reason() == decode::v1::Ending::REASON_STOP
                           ? chat::v1::FINISH_REASON_STOP
                           : chat::v1::FINISH_REASON_LENGTH;
    }
  }
  if (!IsOver() && decode_->has_ended()) return decode_->Failure();
  return std::nullopt;
}

std::optional<CallFailure> ChatFlow::TakeTokens(const decode::v1::Tokens& tokens) {
  const auto vocabulary = static_cast<uint32_t>(ground_.model.spec().language.vocabulary);
  const bool is_sane = tokens.first_index() == writer_->tokens().size() &&
                       !tokens.tokens().empty() &&
                       std::all_of(tokens.tokens().begin(), tokens.tokens().end(),
                                   [&](uint32_t token) { return token < vocabulary; });
  if (!is_sane) {
    return decode_->Failure(absl::InternalError("a decode worker sent tokens that cannot be"));
  }
  const absl::Time now = ground_.loop.Now();
  if (writer_->tokens().empty()) {
    ground_.watch.OnFirstToken(now - arrival_);
    TracePart(TraceRow::kStage, "to the first token", arrival_, now, work_);
  } else if (last_tokens_ != absl::Time()) {
    ground_.watch.OnLaterTokens(tokens.tokens_size(), now - last_tokens_);
  }
  last_tokens_ = now;
  ground_.quotas.Use(tenant_, Quotas::kTokens, tokens.tokens_size());
  refusals_ = 0;
  spare_pages_ = 0;
  numerics_class_ = present_class_;
  bill_.AddStep(decode_->began(), tokens.step_start(), tokens.step_end());
  writer_->Push({tokens.tokens().data(), static_cast<size_t>(tokens.tokens_size())});
  // A stop id's ending follows at once, with its bill; of stop texts only the router knows.
  if (writer_->has_stop_text()) finish_reason_ = chat::v1::FINISH_REASON_STOP;
  return std::nullopt;
}

std::optional<CallFailure> ChatFlow::TakePrefill() {
  while (prefill_ != nullptr && prefill_->has_message()) {
    const prefill::v1::PrefillPromptResponse message = prefill_->Take();
    if (!message.has_done()) continue;
    bill_.Add(prefill_->began(), message.done().bill());
    prefill_ = nullptr;
  }
  if (prefill_ != nullptr && prefill_->has_ended()) return prefill_->Failure();
  return std::nullopt;
}

std::optional<CallFailure> ChatFlow::TakeEncoding() {
  if (encoding_ == nullptr) return std::nullopt;
  if (std::optional<CallFailure> failure = encoding_->TakeNews()) return failure;
  if (encoding_->is_done()) encoding_ = nullptr;
  return std::nullopt;
}

bool ChatFlow::HasNews() const {
  return decode_->has_news() || (prefill_ != nullptr && prefill_->has_news()) ||
         (encoding_ != nullptr && encoding_->HasNews());
}

Task<bool> ChatFlow::AwaitBills() {
  bool is_late = false;
  alarm_ = ground_.loop.At(ground_.loop.Now() + kBillsMayTake, [this, &is_late] {
    is_late = true;
    signal_.Notify();
  });
  while (!is_late && (prefill_ != nullptr || encoding_ != nullptr)) {
    // The reply is complete: whoever fails now only sends no bill.
    if (TakePrefill()) prefill_ = nullptr;
    if (TakeEncoding()) encoding_ = nullptr;
    if (prefill_ == nullptr && encoding_ == nullptr) break;
    co_await signal_.Until([&] {
      return is_late || (prefill_ != nullptr && prefill_->has_news()) ||
             (encoding_ != nullptr && encoding_->HasNews());
    });
  }
  alarm_ = nullptr;
  co_return true;
}

Task<bool> ChatFlow::Pause(absl::Duration time) {
  if (time <= absl::ZeroDuration()) co_return true;
  bool is_over = false;
  alarm_ = ground_.loop.At(ground_.loop.Now() + time, [this, &is_over] {
    is_over = true;
    signal_.Notify();
  });
  co_await signal_.Until([&] { return is_over; });
  alarm_ = nullptr;
  co_return true;
}

absl::Status ChatFlow::Judge(const CallFailure& failure) {
  const absl::Status& status = failure.status;
  if (IsTheRequestsFault(status)) return status;
  if (absl::IsResourceExhausted(status)) {
    // It had less room than it had reported: back to the queue, which asks it again when it has
    // reported anew.
    ground_.fleet.NoteRefusal(failure.worker, failure.role);
    ++refusals_;
    if (failure.role != common::v1::ROLE_VISION) {
      spare_pages_ = std::min(2 * spare_pages_ + 1, kMaxSparePages);
    }
    return absl::OkStatus();
  }
  bill_.AddFailover();
  ground_.watch.OnFailover(failure.role, !writer_->tokens().empty());
  ground_.watch.OnWorkerFailure(failure.worker.id, status, request_id_);
  if (absl::IsAborted(status) && ReasonOf(status) == "PREEMPTED") {
    // The worker is well and full. Preempted often, a reply has still got on each time.
    ground_.fleet.NoteRefusal(failure.worker, failure.role);
    return absl::OkStatus();
  }
  ++failovers_;
  if (failovers_ > ground_.options.failovers) return GiveUp(status);
  if (failure.role == common::v1::ROLE_VISION) media_.Forget(failure.worker);
  // A medium may be dropped, and a link rebuilt, without anybody's fault.
  const bool is_innocent =
      absl::IsNotFound(status) || (absl::IsAborted(status) && ReasonOf(status) != "DRAINING");
  if (!is_innocent) failed_.insert(failure.worker.incarnation);
  return absl::OkStatus();
}

void ChatFlow::NoteUnreached(const CallFailure& failure) {
  if (!absl::IsUnavailable(failure.status) || !ground_.fleet.IsUp(failure.worker)) return;
  if (failure.role == common::v1::ROLE_PREFILL && decode_ != nullptr) {
    failed_.insert(decode_->worker().incarnation);
  } else if (failure.role == common::v1::ROLE_VISION && prefill_ != nullptr) {
    failed_.insert(prefill_->worker().incarnation);
  }
}

void ChatFlow::CloseCalls() {
  // Against the stream: whoever sends stops before the place goes to which it sends.
  encoding_ = nullptr;
  prefill_ = nullptr;
  decode_ = nullptr;
}

void ChatFlow::LeaveQueue() {
  if (place_ == nullptr) return;
  place_->Correct(WorkOf(static_cast<int64_t>(writer_->tokens().size())));
  place_ = nullptr;
}

void ChatFlow::NoteCached(uint32_t held_tokens) {
  if (!cached_tokens_) cached_tokens_ = std::min(held_tokens, plan_.prompt.prompt_tokens());
}

void ChatFlow::CheckEnd() {
  if (writer_->has_stopped()) {
    finish_reason_ = chat::v1::FINISH_REASON_STOP;
  } else if (writer_->tokens().size() >= limits_.max_new_tokens()) {
    finish_reason_ = chat::v1::FINISH_REASON_LENGTH;
  }
}

void ChatFlow::Finish() {
  if (!std::exchange(has_started_, true)) {
    writer_->Start(request_id_, ground_.model.name(), seed_);
  }
  chat::v1::ReplyEnding ending;
  ending.set_finish_reason(finish_reason_);
  chat::v1::Usage& usage = *ending.mutable_usage();
  usage.set_prompt_tokens(plan_.prompt.prompt_tokens());
  usage.set_completion_tokens(static_cast<uint32_t>(writer_->tokens().size()));
  usage.set_cached_tokens(cached_tokens_.value_or(0));
  *ending.mutable_bill() = bill_.At(ground_.loop.Now());
  writer_->Finish(std::move(ending));
}

double ChatFlow::WorkOf(int64_t new_tokens) const {
  double work = plan_.prompt.tokens_size() + kGeneratedWeight * static_cast<double>(new_tokens);
  // A slice is about as much to encode as its rows are to prefill.
  for (const common::v1::Span& span : plan_.prompt.spans()) work += span.rows();
  return work;
}

void ChatFlow::TellTrace(absl::string_view how) {
  has_told_trace_ = true;
  const int64_t tokens = writer_ ? static_cast<int64_t>(writer_->tokens().size()) : 0;
  TraceWork(TraceRow::kRequest, "reply", arrival_, kNow, work_,
            {{"class", NameOf(ClassOf(request_))},
             {"prompt_tokens", int64_t{plan_.prompt.prompt_tokens()}},
             {"tokens", tokens},
             {"failovers", int64_t{failovers_}},
             {"error", how}});
}

common::v1::Prompt ChatFlow::PromptSoFar() const {
  common::v1::Prompt prompt = plan_.prompt;
  prompt.mutable_tokens()->Add(writer_->tokens().begin(), writer_->tokens().end());
  return prompt;
}

int64_t ChatFlow::TokensSoFar() const {
  return plan_.prompt.tokens_size() + static_cast<int64_t>(writer_->tokens().size());
}

}  // namespace minicpmv::router
