#pragma once

#include <atomic>
#include <cstdint>

#include "runtime/model/family.h"
#include "services/common/open_calls.h"
#include "services/common/worker.h"
#include "services/vision/encode_queue.h"
#include "services/vision/media_store.h"
#include "services/vision/vision_metrics.h"

namespace minicpmv::vision {

// What the calls of one vision worker share. Lives longer than they do.
struct VisionRoom {
  Worker& worker;
  const ModelSpec& spec;
  VisionMetrics& metrics;
  MediaStore& media;
  EncodeQueue& queue;
  OpenCalls& calls;
  // Bytes that pixels which are to arrive may still take.
  std::atomic<int64_t>& pixel_room;

  int patch_size() const { return static_cast<int>(spec.vision.patch_size); }
};

}  // namespace minicpmv::vision
