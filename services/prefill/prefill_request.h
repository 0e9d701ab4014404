#pragma once

#include "absl/status/statusor.h"
#include "minicpmv/common/v1/worker.pb.h"
#include "minicpmv/prefill/v1/prefill_service.pb.h"
#include "runtime/engine/handover.h"
#include "runtime/engine/local_model.h"
#include "runtime/link/link.h"
#include "services/common/read_prompt.h"

namespace minicpmv::prefill {

// What is to be computed, and where to its pages go.
struct PrefillJob {
  PrefillRequest request;
  int64_t media_tokens = 0;
  LandingName landing;  // of the pages
};

// FAILED_PRECONDITION: for another model or layout. INVALID_ARGUMENT names the field. OUT_OF_RANGE:
// the tokens do not fit the context.
absl::StatusOr<PrefillJob> ReadPrefillRequest(const v1::PrefillPromptRequest& request,
                                              const common::v1::ModelIdentity& identity,
                                              const LocalModel& model);

}  // namespace minicpmv::prefill
