#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "runtime/device/thread_pool.h"

namespace minicpmv {

// What the machine itself can do, for saying what share of it a program reaches. Each takes well
// under a second where `bytes` is small. Nothing else should run.

// Floating-point operations a second of all threads: fused multiply-adds on registers, in the
// widest vectors; each multiply-add counts as two. The best of several tries.
double MeasureFmaFlops(ThreadPool& pool);
// Bytes a second at which all threads together read `bytes`, the best of 5 passes. Larger than the
// caches, or it measures those.
double MeasureReadBytes(ThreadPool& pool, absl::Span<const uint8_t> bytes);

}  // namespace minicpmv
