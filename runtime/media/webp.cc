#include <cstddef>
#include <memory>

#include <webp/decode.h>
#include <webp/demux.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/media/codec.h"
#include "runtime/media/exif.h"

namespace minicpmv {
namespace {

struct DeleteDemuxer {
  void operator()(WebPDemuxer* demuxer) const { WebPDemuxDelete(demuxer); }
};
using Demuxer = std::unique_ptr<WebPDemuxer, DeleteDemuxer>;

// Checks every chunk's length, so a file that is cut anywhere fails here.
absl::StatusOr<Demuxer> Open(absl::Span<const uint8_t> bytes) {
  const WebPData data = {bytes.data(), bytes.size()};
  Demuxer demuxer(WebPDemux(&data));
  if (demuxer == nullptr) return absl::DataLossError("the WebP is damaged or cut short");
  return demuxer;
}

int Orientation(const WebPDemuxer* demuxer) {
  WebPChunkIterator chunk;
  int orientation = 1;
  if (WebPDemuxGetChunk(demuxer, "EXIF", 1, &chunk)) {
    orientation = ExifOrientation({chunk.chunk.bytes, chunk.chunk.size});
  }
  WebPDemuxReleaseChunkIterator(&chunk);
  return orientation;
}

absl::StatusOr<ImageHeader> HeaderOf(const WebPDemuxer* demuxer) {
  const uint32_t width = WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_WIDTH);
  const uint32_t height = WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_HEIGHT);
  constexpr uint32_t kLargest = 1 << 24;  // the format's own bound
  if (width < 1 || height < 1 || width > kLargest || height > kLargest) {
    return absl::DataLossError("the WebP's header is damaged");
  }
  return ImageHeader{static_cast<int>(width), static_cast<int>(height), Orientation(demuxer)};
}

absl::Status Failure(VP8StatusCode code) {
  switch (code) {
    case VP8_STATUS_OK:
      return absl::OkStatus();
    case VP8_STATUS_OUT_OF_MEMORY:
      return absl::ResourceExhaustedError("no memory to decode the WebP");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return absl::UnimplementedError("WebP images of this kind are not read");
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
      return absl::DataLossError("the WebP is cut short");
    default:
      return absl::DataLossError("the WebP is damaged");
  }
}

// Decodes a frame into its place on the canvas. Alpha is left out, not blended.
absl::Status DecodeFrame(const WebPIterator& frame, Image& canvas) {
  WebPDecoderConfig config;
  CHECK(WebPInitDecoderConfig(&config));
  const size_t stride = size_t{3} * canvas.width;
  // The demuxer promises that frames lie on the canvas; a write outside would be ours to answer
  // for.
  if (frame.x_offset < 0 || frame.y_offset < 0 || frame.width < 1 || frame.height < 1 ||
      frame.width > canvas.width - frame.x_offset ||
      frame.height > canvas.height - frame.y_offset) {
    return absl::DataLossError("the WebP's frame lies outside its canvas");
  }
  config.output.colorspace = MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba =
      canvas.rgb.data() + frame.y_offset * stride + size_t{3} * frame.x_offset;
  config.output.u.RGBA.stride = static_cast<int>(stride);
  config.output.u.RGBA.size = stride * (frame.height - 1) + size_t{3} * frame.width;
  RETURN_IF_ERROR(
      Failure(WebPGetFeatures(frame.fragment.bytes, frame.fragment.size, &config.input)));
  if (config.input.width != frame.width || config.input.height != frame.height) {
    return absl::DataLossError("the WebP's frame is not of the size its header states");
  }
  return Failure(WebPDecode(frame.fragment.bytes, frame.fragment.size, &config));
}

}  // namespace

absl::StatusOr<ImageHeader> ProbeWebp(absl::Span<const uint8_t> bytes) {
  ASSIGN_OR_RETURN(const Demuxer demuxer, Open(bytes));
  return HeaderOf(demuxer.get());
}

absl::StatusOr<Image> DecodeWebp(absl::Span<const uint8_t> bytes, const ImageHeader& header) {
  ASSIGN_OR_RETURN(const Demuxer demuxer, Open(bytes));
  // A canvas that the first frame of an animation does not cover is transparent black there.
  Image image{header.width, header.height,
              std::vector<uint8_t>(size_t{3} * header.width * header.height)};
  WebPIterator frame;
  if (!WebPDemuxGetFrame(demuxer.get(), 1, &frame))
    return absl::DataLossError("the WebP holds no picture");
  const absl::Status status = DecodeFrame(frame, image);
  WebPDemuxReleaseIterator(&frame);
  RETURN_IF_ERROR(status);
  return image;
}

}  // namespace minicpmv
