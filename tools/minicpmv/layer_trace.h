#pragma once

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "runtime/checkpoint/safetensors_writer.h"
#include "runtime/model/prompt.h"
#include "runtime/engine/local_model.h"
#include "tools/minicpmv/picture.h"
#include "tools/minicpmv/picture_rows.h"

namespace minicpmv {

// Adds pixels.0, vision.0.NN and vision.0.out: the first sub-image of the first picture, and what
// the tower makes of it.
absl::Status TraceTower(LocalModel& model, absl::Span<const Picture> pictures, PictureRows& rows,
                        SafetensorsWriter& out);

// Adds hidden.NN: the whole prompt computed once more, as one chunk through all layers on the first
// device, whatever the stages of the engine are. By the numeric contract the values are the
// engine's.
absl::Status TraceDecoder(LocalModel& model, const Prompt& prompt,
                          absl::Span<const Picture> pictures, PictureRows& rows,
                          SafetensorsWriter& out);

}  // namespace minicpmv
