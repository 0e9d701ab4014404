#include "tools/sdk/cpp/attempts.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"

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
      tracestate_(options.tracestate),
      retries_(servers.options(), MonotonicNow()) {}

void Attempts::NoteProgress() { retries_.NoteProgress(MonotonicNow()); }

std::shared_ptr<grpc::ClientContext> Attempts::NewContext() {
  auto context = std::make_shared<grpc::ClientContext>();
  servers_.Introduce(*context, servers_.options().cache_scope);
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

absl::Status Attempts::AwaitNext(const absl::Status& failure) {
  std::unique_lock<std::mutex> lock(mutex_);
  context_ = nullptr;
  if (is_cancelled_) return Cancelled();
  const Retries::Next next = retries_.After(failure, MonotonicNow());
  if (next.leave) {
    servers_.Leave(*server_);
    server_ = &servers_.InUse();
  }
  if (!next.at) return failure;
  const absl::Time wake = std::min(*next.at, deadline_);
  if (cancel_.wait_for(lock, absl::ToChronoNanoseconds(wake - MonotonicNow()),
                       [this] { return is_cancelled_; })) {
    return Cancelled();
  }
  if (*next.at >= deadline_) {
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
