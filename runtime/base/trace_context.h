#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace minicpmv {

// The metadata, or headers, by which a trace travels.
inline constexpr absl::string_view kTraceparent = "traceparent", kTracestate = "tracestate";

// One piece of work in a trace that may span processes: W3C Trace Context. A value; that of no
// trace at all is empty.
struct TraceContext {
  std::string trace_id;   // 32 hex digits
  std::string span_id;    // 16 hex digits: this piece of work
  std::string parent_id;  // of the piece that asked for it; "": it is the first
  uint8_t flags = 0;      // 1: sampled. We hand it on, and record whatever it says
  std::string state;      // tracestate, handed on as it came

  bool empty() const { return trace_id.empty(); }
  // "00-TRACE-SPAN-FLAGS", for what it asks of others.
  std::string Traceparent() const;
};

// The first piece of work of a trace of its own.
TraceContext NewTrace();

// A piece of work that `parent` asks for. Of an empty one: as NewTrace.
TraceContext ChildOf(const TraceContext& parent);

// A piece of work that somebody else asks for. What is malformed counts as not there, as the
// recommendation has it: a bad `traceparent` makes a trace of its own, whatever the state says; a
// bad `tracestate` is dropped alone.
TraceContext ContinueTrace(absl::string_view traceparent, absl::string_view tracestate);

// What a `traceparent` says, its own span_id being that of the sender; nothing: it is malformed.
std::optional<TraceContext> ParseTraceparent(absl::string_view text);

// A list of at most 32 members KEY=VALUE, each key once, 512 bytes at most.
bool IsTracestate(absl::string_view text);

}  // namespace minicpmv
