#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/engine/sequence.h"
#include "runtime/kernels/step_batch.h"
#include "runtime/tensor/tensor.h"

namespace minicpmv {

// How a prompt's pages go from the engine that computes them to the one that decodes: a prefill
// shows them as they are ready, a landing keeps places for them. A sequence of T tokens hands over
// positions [0, T - 1); the last token is computed where tokens are chosen.

// A run of one layer's pages that is complete: just computed, or found by the prefix index.
struct PageRun {
  int64_t layer = 0;  // over the whole decoder
  // Positions [first, first + count): `first` is a multiple of kPageSize, and so is the end, but
  // for the run that ends the prompt.
  int64_t first = 0;
  int64_t count = 0;
  // One a page, whole pages' bytes: [2 * kv_heads * kPageSize, head_size] on the stage's device.
  std::vector<ConstTensorView> pages;
};

// What a prefill is asked for.
struct PrefillRequest {
  std::string id;  // for words to people
  // As SequenceRequest's. At least two; the last one is not computed, and no span holds it.
  std::vector<int32_t> tokens;
  int64_t prompt_tokens = 0;
  std::vector<SequenceRequest::Span> spans;
  std::string cache_scope;
  // Pages from here on are shown: a multiple of kPageSize in [0, tokens - 1], or tokens - 1 (none).
  int64_t send_from = 0;
};

// Sees one prefill, or a landing's prompt being computed in place (ComputeLanding). OnPages is
// called on stages' threads, for different layers at a time; the others on the engine's thread.
// None may block; each may submit, cancel and provide rows. Lives until OnEnd has been called.
class PrefillObserver {
 public:
  virtual ~PrefillObserver() = default;

  // The first call, unless there is no room; maybe before Submit returns. The prefix index holds
  // the first `held_tokens` positions, whole pages: rows of spans that end there are not needed.
  virtual void OnAdmitted(int64_t held_tokens) = 0;

  // Each layer's positions from send_from on, each once and in rising order within a layer. The
  // pages stay as they are until `sent` has been called: once, by any thread, maybe at once. May
  // come after Cancel. Never called by ComputeLanding.
  virtual void OnPages(PageRun run, absl::AnyInvocable<void()> sent) = 0;

  // All layers hold the first `tokens` positions; more than before.
  virtual void OnComputed(int64_t tokens) = 0;

  // The last call, after every `sent`; provided rows are no longer looked at. As
  // SequenceObserver's, and RESOURCE_EXHAUSTED: there is no room for it now. Of `finish` the reason
  // means nothing.
  virtual void OnEnd(absl::StatusOr<Finish> finish) = 0;
};

// Where a landing's pages go. A value: copy it as you like. It may be used from any thread until
// the landing's OnEnd.
class LandingPages {
 public:
  LandingPages() = default;
  // `layers` of the whole decoder, alive as long as the engine; `pages` of the sequence in order.
  LandingPages(absl::Span<const CacheLayer> layers, std::vector<int32_t> pages,
               int64_t held_tokens, int64_t tokens)
      : layers_(layers), pages_(std::move(pages)), held_tokens_(held_tokens), tokens_(tokens) {}

  // Positions that the prefix index holds already, whole pages.
  int64_t held_tokens() const { return held_tokens_; }
  // Positions to be held before decoding begins: T - 1. What has to arrive is
  // [held_tokens, tokens) of every layer.
  int64_t tokens() const { return tokens_; }
  int64_t layers() const { return static_cast<int64_t>(layers_.size()); }

  // Where those positions of a layer go, one place a page, as PageRun's. OUT_OF_RANGE: no such
  // layer, or positions outside [held_tokens, tokens). INVALID_ARGUMENT: a run that does not begin
  // or end where pages do.
  absl::StatusOr<std::vector<TensorView>> Places(int64_t layer, int64_t first, int64_t count) const;

 private:
  absl::Span<const CacheLayer> layers_;
  std::vector<int32_t> pages_;
  int64_t held_tokens_ = 0;
  int64_t tokens_ = 0;
};

// Sees a sequence whose first positions come from elsewhere.
class LandingObserver : public SequenceObserver {
 public:
  // The first call, unless there is no room (OnEnd with RESOURCE_EXHAUSTED); maybe before
  // SubmitLanding returns.
  virtual void OnAdmitted(LandingPages pages) = 0;

  // Before PagesLanded only: an older sequence wants the pages, or the device failed. Whoever gave
  // the places away takes them back and then cancels; OnEnd says why (ABORTED: preempted). At most
  // once.
  virtual void OnRecalled() = 0;
};

}  // namespace minicpmv
