#pragma once

#include <string>

#include "runtime/checkpoint/checkpoint.h"
#include "runtime/model/family.h"
#include "runtime/tensor/dtype.h"

namespace minicpmv {

// 32 bytes that are equal exactly if two processes serve the same model: SHA-256 over the family,
// every number of the configuration, and each tensor's name, dtype, shape and bytes.
//
// Of tensors above 4 KiB only four pieces of 1 KiB are read, spread over all of it: reading a whole
// checkpoint would take minutes before the first answer. Other weights of the same shapes are told
// apart; a single flipped bit is not.
std::string ModelFingerprint(const ModelSpec& spec, const Checkpoint& checkpoint);

// 32 bytes that are equal exactly if pages and rows of two processes look alike: SHA-256 over the
// dtype of both, the page's tokens, layers, heads, head size and the rows' width.
std::string LayoutFingerprint(const ModelSpec& spec, DType dtype);

}  // namespace minicpmv
