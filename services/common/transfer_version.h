#pragma once

#include <cstddef>
#include <cstdint>

namespace minicpmv {

// The versions of TransferService that this build speaks, first to last.
inline constexpr uint32_t kFirstTransferVersion = 1;
inline constexpr uint32_t kLastTransferVersion = 1;

// Bytes of a parcel in one message, at most.
inline constexpr size_t kTransferMessageBytes = size_t{256} << 10;

}  // namespace minicpmv
