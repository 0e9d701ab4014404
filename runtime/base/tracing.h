#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "runtime/base/trace_file.h"

namespace minicpmv {

// The spans of this process go to a file, as long as this is held. One at a time.
class Tracing {
 public:
  // Errors of TraceFile::Open.
  static absl::StatusOr<std::unique_ptr<Tracing>> To(const std::string& path,
                                                     const TraceFileOptions& options);
  // What is told later goes nowhere.
  ~Tracing();
  Tracing(const Tracing&) = delete;
  Tracing& operator=(const Tracing&) = delete;

 private:
  Tracing() = default;
};

namespace tracing_internal {
inline std::atomic<bool> is_on = false;
void Add(const TraceSpan& span);
}  // namespace tracing_internal

// One predictable branch where nobody wants to know.
inline bool IsTracing() { return tracing_internal::is_on.load(std::memory_order_relaxed); }

// Each tells a span that is over; nothing where nobody wants to know. Any thread, any lock: they
// wait for nobody. Arguments are of static names; no prompt, no reply, no picture belongs there.

// Something within the work.
inline void TracePart(TraceRow row, absl::string_view name, absl::Time start, absl::Time end,
                      const TracedWork& work, TraceArguments arguments = {}) {
  if (!IsTracing()) return;
  tracing_internal::Add({SpanKind::kPart, row, name, start, end, &work, arguments});
}
// All of it.
inline void TraceWork(TraceRow row, absl::string_view name, absl::Time start, absl::Time end,
                      const TracedWork& work, TraceArguments arguments = {}) {
  if (!IsTracing()) return;
  tracing_internal::Add({SpanKind::kWork, row, name, start, end, &work, arguments});
}
// All of it, asked of another process.
inline void TraceCall(absl::string_view name, absl::Time start, absl::Time end,
                      const TracedWork& work, TraceArguments arguments = {}) {
  if (!IsTracing()) return;
  tracing_internal::Add({SpanKind::kCall, TraceRow::kCall, name, start, end, &work, arguments});
}
// Of no request in particular.
inline void TraceCommon(TraceRow row, absl::string_view name, absl::Time start, absl::Time end,
                        TraceArguments arguments = {}) {
  if (!IsTracing()) return;
  tracing_internal::Add({SpanKind::kPart, row, name, start, end, nullptr, arguments});
}

}  // namespace minicpmv
