#pragma once

#include "absl/status/statusor.h"
#include "minicpmv/common/v1/worker.pb.h"
#include "minicpmv/decode/v1/decode_service.pb.h"
#include "runtime/engine/local_model.h"
#include "runtime/engine/sequence.h"

namespace minicpmv::decode {

// What an engine is to be asked for; settings that are unset are the model's defaults.
// FAILED_PRECONDITION: for another model or layout. INVALID_ARGUMENT names the field. OUT_OF_RANGE:
// the tokens do not fit the context.
absl::StatusOr<SequenceRequest> ReadDecodeRequest(const v1::DecodeSequenceRequest& request,
                                                  const common::v1::ModelIdentity& identity,
                                                  const LocalModel& model);

}  // namespace minicpmv::decode
