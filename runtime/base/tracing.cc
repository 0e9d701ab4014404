#include "runtime/base/tracing.h"

#include <mutex>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {
namespace {

struct Present {
  std::mutex mutex;
  std::unique_ptr<TraceFile> file;  // guarded by mutex
};

// Never destroyed, so that threads may tell spans until the very end.
Present& ThePresent() {
  static Present* const present = new Present;
  return *present;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tracing>> Tracing::To(const std::string& path,
                                                     const TraceFileOptions& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<TraceFile> file, TraceFile::Open(path, options));
  Present& present = ThePresent();
  const std::lock_guard<std::mutex> lock(present.mutex);
  CHECK(present.file == nullptr) << "two traces of one process";
  present.file = std::move(file);
  tracing_internal::is_on = true;
  return std::unique_ptr<Tracing>(new Tracing);
}

Tracing::~Tracing() {
  Present& present = ThePresent();
  std::unique_ptr<TraceFile> ended;
  const std::lock_guard<std::mutex> lock(present.mutex);
  tracing_internal::is_on = false;
  ended = std::move(present.file);
}

void tracing_internal::Add(const TraceSpan& span) {
  Present& present = ThePresent();
  const std::lock_guard<std::mutex> lock(present.mutex);
  if (present.file != nullptr) present.file->Add(span);
}

}  // namespace minicpmv
