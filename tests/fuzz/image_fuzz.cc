// Any bytes as a picture: whatever decodes was promised by the probe, at the same size, and what
// the planner says of that size is what cutting and laying out give.
#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/media/image.h"
#include "runtime/media/patches.h"
#include "runtime/media/slicing.h"

namespace minicpmv {
namespace {

constexpr float kHalves[] = {0.5f, 0.5f, 0.5f};

void LayOut(const Image& image) {
  constexpr SliceRule kSmall = {.scale_resolution = 28, .patch_size = 14, .max_slices = 4};
  const absl::StatusOr<SlicePlan> plan = PlanSlices({image.width, image.height}, kSmall);
  if (!plan.ok()) return;
  const std::vector<Image> sub_images = CutSubImages(image, *plan);
  CHECK_EQ(static_cast<int>(sub_images.size()), plan->sub_images());
  for (int i = 0; i < plan->sub_images(); ++i) {
    const PatchGrid grid = plan->patches(i);
    CHECK_EQ(sub_images[i].height, grid.rows * kSmall.patch_size);
    CHECK_EQ(sub_images[i].width, grid.columns * kSmall.patch_size);
    std::vector<float> patches(sub_images[i].rgb.size());
    PatchRows(sub_images[i], kSmall.patch_size, kHalves, kHalves, patches.data());
  }
}

void Check(absl::Span<const uint8_t> bytes) {
  constexpr Exif kExif = Exif::kApply;
  constexpr ImageLimits kLimits = {.bytes = 1 << 20, .pixels = 1 << 16};
  const absl::StatusOr<ImageInfo> info = ProbeImage(bytes, kExif, kLimits);
  const absl::StatusOr<Image> image = DecodeImage(bytes, kExif, kLimits);
  if (!image.ok()) return;
  CHECK(info.ok()) << info.status();
  CHECK_EQ(info->width, image->width);
  CHECK_EQ(info->height, image->height);
  CHECK_EQ(image->rgb.size(), size_t{3} * image->width * image->height);
  LayOut(*image);
}

// Without right checksums no changed PNG would ever get past its first chunk.
std::vector<uint8_t> WithRightChecksums(absl::Span<const uint8_t> bytes) {
  constexpr size_t kSignature = 8;
  std::vector<uint8_t> png(bytes.begin(), bytes.end());
  size_t at = kSignature;
  while (png.size() >= at && png.size() - at >= 12) {
    const size_t length =
        size_t{png[at]} << 24 | png[at + 1] << 16 | png[at + 2] << 8 | png[at + 3];
    if (length > png.size() - at - 12) break;
    const uLong checksum = crc32(0, png.data() + at + 4, static_cast<uInt>(length + 4));
    at += 8 + length;
    for (int shift = 24; shift >= 0; shift -= 8)
      png[at++] = static_cast<uint8_t>(checksum >> shift);
  }
  return png;
}

}  // namespace
}  // namespace minicpmv

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  minicpmv::Check({data, size});
  if (size > 0 && data[0] == 0x89) minicpmv::Check(minicpmv::WithRightChecksums({data, size}));
  return 0;
}
