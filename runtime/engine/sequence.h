#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "runtime/engine/sampling.h"
#include "runtime/kv/prefix_index.h"

namespace minicpmv {

// Grows with each submission to an engine; never used again.
using SequenceId = int64_t;

// What an engine is asked for: tokens, and how to go on.
struct SequenceRequest {
  // Positions whose rows are handed in instead of being looked up.
  using Span = PrefixSpan;

  std::string id;  // for words to people
  // The prompt, then what was already generated for it by an engine that was lost or gave the
  // sequence up. Where a span lies: any id of the vocabulary.
  std::vector<int32_t> tokens;
  int64_t prompt_tokens = 0;  // in [1, tokens.size()]
  std::vector<Span> spans;    // rising, apart, inside the prompt
  SamplingSettings sampling;  // max_new_tokens counts the tokens generated before, too
  uint32_t choice = 0;        // which of the replies of one request
  // A sequence that was preempted and comes again: the id that it had when it first came, which
  // keeps its place in line. -1: a new one.
  SequenceId again = -1;

  // True: pages of earlier sequences of this scope that begin alike are used again, and this one's
  // are remembered. A landing always does. Positions whose logits are shown are computed anyway.
  bool uses_prefixes = false;
  std::string cache_scope;  // the tenant: nothing is found from another one

  // For comparing with the original: the i-th new token becomes forced_tokens[i] whatever is
  // chosen; after the last of them the choice counts again.
  std::vector<int32_t> forced_tokens;
  // The logits of positions from here on are shown to the observer. By default none are.
  int64_t show_logits_from = std::numeric_limits<int64_t>::max();
};

enum class FinishReason {
  kStop,    // a stop id was chosen; it was the last token
  kLength,  // max_new_tokens, or the context is full
};

// How a sequence ended well. Times are the engine clock's: only differences mean something.
struct Finish {
  FinishReason reason = FinishReason::kStop;
  absl::Time submitted;
  absl::Time started;      // the first step that names it was issued
  absl::Time prompt_done;  // all tokens it came with are computed, and the first new one is chosen
  absl::Time ended;
  absl::Duration busy;  // sum over the steps that name it of their stages' work
};

// Sees one sequence. Called on the engine's thread, one call at a time: must not block; may submit,
// cancel and provide rows. Lives until OnEnd has been called.
class SequenceObserver {
 public:
  virtual ~SequenceObserver() = default;

  // What was chosen for the next position; an ending stop id, too.
  virtual void OnToken(int32_t token) = 0;

  // Logits [vocabulary] of a position that the request wanted to see, in rising order, before the
  // token that is chosen from them. The view ends with the call.
  virtual void OnLogits(int64_t position, absl::Span<const float> logits);

  // The last call; rows that were provided are no longer looked at. CANCELLED: Cancel, or the
  // engine was destroyed. ABORTED: preempted: the same request with the tokens so far, and `again`,
  // goes on from here. RESOURCE_EXHAUSTED: it does not wait for pages, and there are none. INTERNAL:
  // its logits are no numbers. INVALID_ARGUMENT: rows that do not fit. Any other status: a device
  // failed.
  virtual void OnEnd(absl::StatusOr<Finish> finish) = 0;
};

}  // namespace minicpmv
