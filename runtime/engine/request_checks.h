#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "runtime/engine/handover.h"
#include "runtime/engine/sequence.h"

namespace minicpmv {

// What an engine cannot do for anybody: INVALID_ARGUMENT names the field. Ids are held against
// `vocabulary`, lengths against `max_positions`, the context.
absl::Status CheckSequence(const SequenceRequest& request, int64_t vocabulary,
                           int64_t max_positions);
absl::Status CheckLanding(const SequenceRequest& request, int64_t vocabulary,
                          int64_t max_positions);
absl::Status CheckPrefill(const PrefillRequest& request, int64_t vocabulary, int64_t max_positions);

// The most tokens that a valid request may grow to.
int64_t MaxTokens(const SequenceRequest& request, int64_t max_positions);

}  // namespace minicpmv
