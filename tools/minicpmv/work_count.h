#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/model/family.h"

namespace minicpmv {

// What a model's work is at least, for saying how near a program comes to what a machine can do.

// Bytes that one decode step has to read: the weights of all layers, the head, and the cache of
// `positions` positions (of all sequences together). Norms and biases are left out. Errors of
// MeasureDecoder.
absl::StatusOr<double> DecodeStepBytes(const Checkpoint& checkpoint, const ModelSpec& spec,
                                       DType cache, double positions);

// Floating-point operations of a prompt: products of all layers and attention, no head. A
// multiply-add counts as two.
double PrefillFlops(const ModelSpec& spec, double tokens);

// Floating-point operations of one sub-image in tower and resampler.
double VisionFlops(const ModelSpec& spec, double patches);

// The longest run of mapped bytes that holds weights of the decoder, at most `limit`: what to
// measure reading with.
absl::Span<const uint8_t> LongestMappedRun(const Checkpoint& checkpoint, uint64_t limit);

}  // namespace minicpmv
