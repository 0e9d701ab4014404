#include "runtime/base/trace_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "runtime/base/clock.h"
#include "runtime/base/json_text.h"
#include "runtime/base/log.h"

namespace minicpmv {
namespace {

constexpr char kBegin[] = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n";
constexpr char kEnd[] = "\n]}\n";
constexpr const char* kRowNames[kTraceRows] = {"requests", "stages",   "calls",  "media", "encode",
                                               "prefill",  "transfer", "decode", "steps"};
// Rows of one name; what needs more lies over one another.
constexpr size_t kMostLanes = 512;
// Of the picture's rows, so that those of one name stay together.
constexpr int kPlacesARow = 1000;

absl::Duration DrawOffset() {
  // Of several tries that with the least time between its two looks at the monotonic clock.
  const Clock& clock = Clock::Monotonic();
  absl::Duration offset, narrowest = absl::InfiniteDuration();
  for (int i = 0; i < 8; ++i) {
    const absl::Time before = clock.Now();
    const absl::Time wall = absl::Now();
    const absl::Duration width = clock.Now() - before;
    if (width >= narrowest) continue;
    narrowest = width;
    offset = wall - (before + width / 2);
  }
  return offset;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TraceFile>> TraceFile::Open(const std::string& path,
                                                           const TraceFileOptions& options) {
  const int file = open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  if (file < 0) return absl::ErrnoToStatus(errno, path);
  auto made = absl::WrapUnique(new TraceFile(file, options));
  const absl::Status written = made->Write(
      absl::StrCat(kBegin, "{\"name\": \"process_name\", \"ph\": \"M\", \"pid\": ", made->pid_,
                   ", \"args\": {\"name\": ", JsonText(options.process),
                   "}},\n{\"name\": \"process_sort_index\", \"ph\": \"M\", \"pid\": ", made->pid_,
                   ", \"args\": {\"sort_index\": ", options.place, "}}"));
  if (!written.ok())
    return absl::Status(written.code(), absl::StrCat(path, ": ", written.message()));
  made->writer_ = std::thread([lent = made.get()] { lent->WriteAll(); });
  return made;
}

TraceFile::TraceFile(int file, const TraceFileOptions& options)
    : options_(options), file_(file), pid_(getpid()), to_wall_(DrawOffset()) {}

TraceFile::~TraceFile() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_closing_ = true;
  }
  changed_.notify_one();
  if (writer_.joinable()) writer_.join();
  close(file_);
}

int64_t TraceFile::dropped() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return dropped_;
}

int TraceFile::LaneFor(const TraceSpan& span, absl::Time end) {
  std::vector<Lane>& lanes = lanes_[static_cast<size_t>(span.row)];
  auto lane = std::find_if(lanes.begin(), lanes.end(),
                           [&](const Lane& other) { return other.free_from <= span.start; });
  if (lane == lanes.end() && lanes.size() < kMostLanes) {
    lane = lanes.insert(lanes.end(), Lane{++last_lane_});
    const char* const name = kRowNames[static_cast<size_t>(span.row)];
    const int place = static_cast<int>(span.row) * kPlacesARow + static_cast<int>(lanes.size());
    absl::StrAppend(&pending_, ",\n{\"name\": \"thread_name\", \"ph\": \"M\"");
    AppendPlace(lane->id);
    absl::StrAppend(&pending_, ", \"args\": {\"name\": \"", name,
                    "\"}},\n{\"name\": \"thread_sort_index\", \"ph\": \"M\"");
    AppendPlace(lane->id);
    absl::StrAppend(&pending_, ", \"args\": {\"sort_index\": ", place, "}}");
  } else if (lane == lanes.end()) {
    lane = std::prev(lane);
  }
  lane->free_from = end;
  return lane->id;
}

void TraceFile::AppendTime(absl::string_view name, absl::Time time) {
  const int64_t nanoseconds = absl::ToUnixNanos(time);
  absl::StrAppendFormat(&pending_, ", \"%s\": %d.%03d", name, nanoseconds / 1000,
                        nanoseconds % 1000);
}

void TraceFile::AppendPlace(int lane) {
  absl::StrAppend(&pending_, ", \"pid\": ", pid_, ", \"tid\": ", lane);
}

void TraceFile::AppendArguments(const TraceSpan& span) {
  const char* separator = "";
  const auto add = [&](absl::string_view name, const absl::AlphaNum& value) {
    absl::StrAppend(&pending_, separator, "\"", name, "\": ", value);
    separator = ", ";
  };
  const auto add_text = [&](absl::string_view name, absl::string_view text) {
    if (!text.empty()) add(name, JsonText(text));
  };
  absl::StrAppend(&pending_, ", \"args\": {");
  if (span.work != nullptr) {
    add_text("request", span.work->request_id);
    add_text("trace", span.work->context.trace_id);
    if (span.kind != SpanKind::kPart) {
      add_text("span", span.work->context.span_id);
      add_text("parent", span.work->context.parent_id);
    }
  }
  for (const TraceArgument& argument : span.arguments) {
    if (const auto* const number = std::get_if<int64_t>(&argument.value)) {
      add(argument.name, *number);
    } else {
      add_text(argument.name, std::get<absl::string_view>(argument.value));
    }
  }
  absl::StrAppend(&pending_, "}");
}

void TraceFile::AppendFlow(const TraceSpan& span, int lane) {
  if (span.work == nullptr || span.kind == SpanKind::kPart) return;
  // Both ends name the span of the caller.
  const bool is_call = span.kind == SpanKind::kCall;
  const TraceContext& context = span.work->context;
  const std::string& id = is_call ? context.span_id : context.parent_id;
  if (id.empty()) return;
  absl::StrAppend(&pending_, ",\n{\"name\": \"call\", \"cat\": \"call\", \"ph\": ",
                  is_call ? "\"s\"" : "\"f\", \"bp\": \"e\"", ", \"id\": \"0x", id, "\"");
  AppendTime("ts", span.start + to_wall_);
  AppendPlace(lane);
  absl::StrAppend(&pending_, "}");
}

void TraceFile::Add(const TraceSpan& span) {
  const absl::Time end = span.end == kNow ? Clock::Monotonic().Now() : span.end;
  bool was_empty;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (pending_.size() >= options_.buffer || is_full_) {
      ++dropped_;
      return;
    }
    was_empty = pending_.empty();
    const int lane = LaneFor(span, end);
    absl::StrAppend(&pending_, ",\n{\"name\": ", JsonText(span.name), ", \"cat\": \"",
                    kRowNames[static_cast<size_t>(span.row)], "\", \"ph\": \"X\"");
    AppendTime("ts", span.start + to_wall_);
    AppendTime("dur", absl::UnixEpoch() + std::max(absl::ZeroDuration(), end - span.start));
    AppendPlace(lane);
    AppendArguments(span);
    absl::StrAppend(&pending_, "}");
    AppendFlow(span, lane);
  }
  if (was_empty) changed_.notify_one();
}

absl::Status TraceFile::Write(absl::string_view events) {
  // One call, so that nobody who reads, or kills us, sees the file without its end.
  const std::string text = absl::StrCat(events, kEnd);
  absl::string_view rest = text;
  uint64_t at = size_;
  while (!rest.empty()) {
    const ssize_t written = pwrite(file_, rest.data(), rest.size(), static_cast<off_t>(at));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return absl::ErrnoToStatus(errno, "cannot be written");
    at += static_cast<uint64_t>(written);
    rest.remove_prefix(static_cast<size_t>(written));
  }
  size_ += events.size();
  return absl::OkStatus();
}

void TraceFile::WriteAll() {
  std::unique_lock<std::mutex> lock(mutex_);
  std::string events;
  while (!is_closing_ || !pending_.empty()) {
    changed_.wait(lock, [this] { return is_closing_ || !pending_.empty(); });
    // More will come with it.
    changed_.wait_for(lock, absl::ToChronoMicroseconds(options_.flush_every),
                      [this] { return is_closing_; });
    events.swap(pending_);
    lock.unlock();
    absl::Status written;
    if (!events.empty()) written = Write(events);
    if (written.ok() && size_ >= options_.file) {
      written = absl::ResourceExhaustedError(absl::StrCat("is full: ", size_, " bytes"));
    }
    events.clear();
    lock.lock();
    if (written.ok() || is_full_) continue;
    is_full_ = true;
    pending_.clear();
    LogWarning(absl::StrCat("the trace of this process ends: its file ", written.message()));
  }
}

}  // namespace minicpmv
