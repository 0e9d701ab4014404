#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "runtime/base/trace_context.h"

namespace minicpmv {

// Where a span is drawn, from the top of a process's picture to its bottom.
enum class TraceRow : uint8_t {
  kRequest,   // requests and calls from their arrival to their end
  kStage,     // stages of a request, as whoever leads it sees them
  kCall,      // calls at other processes
  kMedia,     // media that come, and are decoded
  kEncode,    // slices
  kPrefill,   // chunks of prompts
  kTransfer,  // parcels on their way, and the wait for them
  kDecode,    // a token each
  kStep,      // an engine's steps, whosever they are
};
inline constexpr size_t kTraceRows = 9;

// One request's work in one process.
struct TracedWork {
  std::string request_id;
  TraceContext context;
};

// How a span stands to the work that it names.
enum class SpanKind : uint8_t {
  kPart,  // something within it
  kWork,  // all of it; an arrow comes from whoever asked
  kCall,  // all of it, done elsewhere: an arrow goes there
};

struct TraceArgument {
  TraceArgument(absl::string_view name, int64_t number) : name(name), value(number) {}
  TraceArgument(absl::string_view name, absl::string_view text) : name(name), value(text) {}
  TraceArgument(absl::string_view name, const char* text) : name(name), value(text) {}

  absl::string_view name;
  std::variant<int64_t, absl::string_view> value;
};
using TraceArguments = std::initializer_list<TraceArgument>;

// As the end of a span: when it is told.
inline constexpr absl::Time kNow = absl::InfiniteFuture();

struct TraceSpan {
  SpanKind kind = SpanKind::kPart;
  TraceRow row = TraceRow::kRequest;
  absl::string_view name;
  absl::Time start, end;             // by Clock::Monotonic(), or kNow
  const TracedWork* work = nullptr;  // null: nobody's in particular
  TraceArguments arguments;
};

struct TraceFileOptions {
  std::string process;  // what the picture calls this process
  int place = 0;        // smaller ones are drawn above
  // What is not written yet, and all that ever is, in bytes. Spans beyond are dropped.
  size_t buffer = 4 << 20;
  uint64_t file = uint64_t{1} << 30;
  absl::Duration flush_every = absl::Milliseconds(100);
};

// The spans of one process in Chrome's trace-event form, as chrome://tracing and ui.perfetto.dev
// show it. What is on disk is whole JSON after every write: a process that is killed leaves all but
// the last moments. Thread-safe; Add never waits for the disk.
//
// The monotonic clock is mapped to the wall clock once, when the file is opened, so that files of
// one machine line up. Spans of one row that overlap are drawn on further rows of that name.
class TraceFile {
 public:
  // Overwrites the file. NOT_FOUND, PERMISSION_DENIED, ...: it cannot be written.
  static absl::StatusOr<std::unique_ptr<TraceFile>> Open(const std::string& path,
                                                         const TraceFileOptions& options);
  // Writes what is left.
  ~TraceFile();

  void Add(const TraceSpan& span);

  // Spans that had no room so far.
  int64_t dropped() const;

 private:
  // One row of the picture.
  struct Lane {
    int id = 0;
    absl::Time free_from = absl::InfinitePast();
  };

  TraceFile(int file, const TraceFileOptions& options);
  int LaneFor(const TraceSpan& span, absl::Time end);
  void AppendTime(absl::string_view name, absl::Time time);
  void AppendPlace(int lane);
  void AppendArguments(const TraceSpan& span);
  void AppendFlow(const TraceSpan& span, int lane);
  // Replaces the end of the file.
  absl::Status Write(absl::string_view events);
  void WriteAll();

  const TraceFileOptions options_;
  const int file_;
  const int pid_;
  const absl::Duration to_wall_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_, as all below.
  std::string pending_;  // each event behind a comma
  std::vector<Lane> lanes_[kTraceRows];
  int last_lane_ = 0;
  int64_t dropped_ = 0;
  bool is_closing_ = false, is_full_ = false;

  uint64_t size_ = 0;  // of the file without its end; the writer's
  std::thread writer_;
};

}  // namespace minicpmv
