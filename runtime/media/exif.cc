#include "runtime/media/exif.h"

#include <cstring>

namespace minicpmv {
namespace {

constexpr uint8_t kPrefix[] = {'E', 'x', 'i', 'f', 0, 0};

// Numbers of either byte order from a block whose every offset may lie.
class TiffReader {
 public:
  explicit TiffReader(absl::Span<const uint8_t> block) : block_(block) {}

  // False when the block does not begin with a TIFF header.
  bool Open() {
    if (block_.size() < 8) return false;
    if (block_[0] != block_[1] || (block_[0] != 'I' && block_[0] != 'M')) return false;
    big_endian_ = block_[0] == 'M';
    return U16(2) == 42;
  }
  bool Holds(uint64_t offset, uint64_t size) const {
    return offset <= block_.size() && size <= block_.size() - offset;
  }
  // The caller has asked Holds.
  uint32_t U16(uint64_t at) const {
    return big_endian_ ? block_[at] << 8 | block_[at + 1] : block_[at + 1] << 8 | block_[at];
  }
  uint32_t U32(uint64_t at) const {
    return big_endian_ ? U16(at) << 16 | U16(at + 2) : U16(at + 2) << 16 | U16(at);
  }

 private:
  absl::Span<const uint8_t> block_;
  bool big_endian_ = false;
};

}  // namespace

int ExifOrientation(absl::Span<const uint8_t> block) {
  if (block.size() >= sizeof(kPrefix) && std::memcmp(block.data(), kPrefix, sizeof(kPrefix)) == 0) {
    block.remove_prefix(sizeof(kPrefix));
  }
  constexpr uint32_t kOrientation = 0x0112;
  constexpr uint32_t kShort = 3;
  constexpr uint32_t kLong = 4;
  constexpr uint64_t kEntryBytes = 12;  // tag, type, count, value

  TiffReader tiff(block);
  if (!tiff.Open()) return 1;
  const uint64_t directory = tiff.U32(4);
  if (!tiff.Holds(directory, 2)) return 1;
  const uint32_t entries = tiff.U16(directory);
  int orientation = 1;
  for (uint32_t i = 0; i < entries; ++i) {
    const uint64_t entry = directory + 2 + i * kEntryBytes;
    if (!tiff.Holds(entry, kEntryBytes)) break;
    if (tiff.U16(entry) != kOrientation || tiff.U32(entry + 4) != 1) continue;
    const uint32_t type = tiff.U16(entry + 2);
    if (type != kShort && type != kLong) continue;
    const uint32_t value = type == kShort ? tiff.U16(entry + 8) : tiff.U32(entry + 8);
    orientation = value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return orientation;
}

}  // namespace minicpmv
