#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "minicpmv/common/v1/landing.pb.h"
#include "minicpmv/common/v1/worker.pb.h"
#include "minicpmv/vision/v1/vision_service.pb.h"
#include "runtime/model/family.h"
#include "services/vision/encode_queue.h"
#include "services/vision/media_store.h"

namespace minicpmv::vision {

// One slice that a call is about.
struct SpanOfSlice {
  int64_t index = 0;  // the span's number in the prompt
  WantedSlice slice;
  int columns = 0, rows = 0;  // patches
};

// Pixels that another vision worker waits for.
struct HelperSpans {
  common::v1::Destination destination;
  std::vector<SpanOfSlice> spans;
};

// An EncodeMediaRequest, checked.
struct EncodePlan {
  std::string request_id, cache_scope;
  std::vector<SpanOfSlice> spans;
  common::v1::Destination destination;  // where `spans` is not empty
  std::optional<MediumToOpen> medium;   // nothing: the pixels arrive
  std::vector<HelperSpans> helpers;
};

// Pins the medium. INVALID_ARGUMENT names the field: whatever is malformed, and slices that are not
// how this medium is cut under these options. FAILED_PRECONDITION: another model is meant.
// NOT_FOUND: the medium is not, or no longer, held in this scope.
absl::StatusOr<EncodePlan> ReadEncodeRequest(const v1::EncodeMediaRequest& request,
                                             const common::v1::ModelIdentity& identity,
                                             const ModelSpec& spec, MediaStore& media);

}  // namespace minicpmv::vision
