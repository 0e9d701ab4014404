#include "tools/sdk/cpp/attempts.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "tools/sdk/cpp/status.h"

namespace minicpmv::sdk {
namespace {

absl::Time MonotonicNow() {
  return absl::UnixEpoch() + absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

absl::Status Cancelled() { return absl::CancelledError("the call was cancelled here"); }

// gRPC ends the process where metadata is anything else.
void AddIfPrintable(const char* name, const std::string& value, grpc::ClientContext& context) {
  const bool is_printable =
      std::all_of(value.begin(), value.end(), [](char c) { return c >= ' ' && c <= '~'; });
  if (!value.empty() && is_printable) context.AddMetadata(name, value);
}

}  // namespace

Attempts::Attempts(Servers& servers, const CallOptions& options)
    : servers_(servers),
      server_(&servers.InUse()),
      deadline_(MonotonicNow() + options.timeout),
      traceparent_(options.traceparent),
      tracestate_(options.tracestate) {
  NoteProgress();
}

void Attempts::NoteProgress() {
  give_up_ = MonotonicNow() + servers_.options().patience;
  pause_ = servers_.options().pause;
  failures_ = 0;
}

std::shared_ptr<grpc::ClientContext> Attempts::NewContext() {
  auto context = std::make_shared<grpc::ClientContext>();
  const ClientOptions& options = servers_.options();
  if (!options.token.empty()) {
    context->AddMetadata("authorization", absl::StrCat("Bearer ", options.token));
  }
  if (!options.cache_scope.empty()) {
    context->AddMetadata("minicpmv-cache-scope", options.cache_scope);
  }
  AddIfPrintable("traceparent", traceparent_, *context);
  AddIfPrintable("tracestate", tracestate_, *context);
  if (deadline_ != absl::InfiniteFuture()) {
    const absl::Duration left = deadline_ - MonotonicNow();
    context->set_deadline(std::chrono::system_clock::now() + absl::ToChronoMicroseconds(left));
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  context_ = context;
  if (is_cancelled_) context->TryCancel();
  return context;
}

absl::Duration Attempts::DelayAfter(const absl::Status& failure) {
  const absl::Duration asked = RetryDelayOf(failure).value_or(absl::ZeroDuration());
  ++failures_;
  // Whoever is full is asked again; whoever is gone is left.
  if (absl::IsResourceExhausted(failure)) return asked;
  servers_.Leave(*server_);
  server_ = &servers_.InUse();
  if (failures_ % servers_.size() != 0) return asked;
  // Many clients lose a server at once: they should not all come back at once.
  const absl::Duration pause = pause_ * absl::Uniform(random_, 0.5, 1.0);
  pause_ = std::min(2 * pause_, servers_.options().longest_pause);
  return std::max(asked, pause);
}

absl::Status Attempts::AwaitNext(const absl::Status& failure) {
  std::unique_lock<std::mutex> lock(mutex_);
  context_ = nullptr;
  if (is_cancelled_) return Cancelled();
  switch (failure.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kCancelled:  // not by us: a server that shuts down
      break;
    case absl::StatusCode::kResourceExhausted:
      if (RetryDelayOf(failure)) break;
      return failure;
    default:
      return failure;
  }
  const absl::Time next = MonotonicNow() + DelayAfter(failure);
  if (next > give_up_) return failure;
  const absl::Time wake = std::min(next, deadline_);
  if (cancel_.wait_for(lock, absl::ToChronoNanoseconds(wake - MonotonicNow()),
                       [this] { return is_cancelled_; })) {
    return Cancelled();
  }
  if (next >= deadline_) {
    return absl::DeadlineExceededError(
        absl::StrCat("the deadline passed between two attempts: ", failure.message()));
  }
  return absl::OkStatus();
}

void Attempts::Cancel() {
  const std::lock_guard<std::mutex> lock(mutex_);
  is_cancelled_ = true;
  if (context_) context_->TryCancel();
  cancel_.notify_all();
}

}  // namespace minicpmv::sdk
