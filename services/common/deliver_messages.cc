#include "services/common/deliver_messages.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <isa-l/crc.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "services/common/incarnation.h"
#include "services/common/transfer_version.h"

namespace minicpmv {
namespace {

using ::google::protobuf::internal::WireFormatLite;
using ::google::protobuf::io::CodedInputStream;
using ::google::protobuf::io::CodedOutputStream;
using transfer::v1::DeliverRequest;
using transfer::v1::ParcelBytes;

constexpr uint32_t kBytesTag = WireFormatLite::MakeTag(DeliverRequest::kBytesFieldNumber,
                                                       WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
constexpr uint32_t kCrcTag =
    WireFormatLite::MakeTag(ParcelBytes::kCrc32CFieldNumber, WireFormatLite::WIRETYPE_FIXED32);
constexpr uint32_t kDataTag = WireFormatLite::MakeTag(ParcelBytes::kDataFieldNumber,
                                                      WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
// Two lengths of up to 5 bytes, three tags, a checksum.
constexpr size_t kLongestHeader = 5 + 5 + 3 + 4;

// Calls take(bytes) for what lies behind the first `skip` bytes of the slices.
template <typename Take>
void ForEachSpan(const std::vector<grpc::Slice>& slices, size_t skip, Take take) {
  for (const grpc::Slice& slice : slices) {
    const size_t skipped = std::min(skip, slice.size());
    skip -= skipped;
    if (skipped < slice.size()) take(absl::MakeSpan(slice.begin() + skipped, slice.end()));
  }
}

transfer::v1::DType ToProto(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return transfer::v1::DTYPE_F32;
    case DType::kBF16:
      return transfer::v1::DTYPE_BF16;
    case DType::kF16:
      return transfer::v1::DTYPE_F16;
    case DType::kI32:
      return transfer::v1::DTYPE_I32;
    case DType::kU8:
      return transfer::v1::DTYPE_U8;
  }
  return transfer::v1::DTYPE_UNSPECIFIED;
}

absl::StatusOr<DType> FromProto(transfer::v1::DType dtype) {
  switch (dtype) {
    case transfer::v1::DTYPE_F32:
      return DType::kF32;
    case transfer::v1::DTYPE_BF16:
      return DType::kBF16;
    case transfer::v1::DTYPE_F16:
      return DType::kF16;
    case transfer::v1::DTYPE_I32:
      return DType::kI32;
    case transfer::v1::DTYPE_U8:
      return DType::kU8;
    default:
      return absl::InvalidArgumentError(absl::StrCat("label.dtype is ", int{dtype}));
  }
}

}  // namespace

grpc::ByteBuffer Encode(const google::protobuf::MessageLite& message) {
  grpc::Slice slice(message.ByteSizeLong());
  message.SerializeWithCachedSizesToArray(const_cast<uint8_t*>(slice.begin()));
  return grpc::ByteBuffer(&slice, 1);
}

bool Decode(grpc::ByteBuffer buffer, google::protobuf::MessageLite* message) {
  grpc::ProtoBufferReader reader(&buffer);
  return reader.status().ok() && message->ParseFromZeroCopyStream(&reader);
}

uint32_t ExtendCrc32c(uint32_t crc, absl::Span<const uint8_t> bytes) {
  // The library takes an int, and knows neither of the two inversions that belong to the checksum.
  CHECK_LE(bytes.size(), size_t{1} << 30);
  return ~crc32_iscsi(const_cast<uint8_t*>(bytes.data()), static_cast<int>(bytes.size()), ~crc);
}

grpc::ByteBuffer EncodeBytes(ByteReader& content, uint32_t* crc) {
  const uint32_t count = static_cast<uint32_t>(std::min(content.left(), kTransferMessageBytes));
  const uint32_t inner = 1 + 4 + 1 + CodedOutputStream::VarintSize32(count) + count;
  grpc::Slice slice(1 + CodedOutputStream::VarintSize32(inner) + inner);
  uint8_t* out = const_cast<uint8_t*>(slice.begin());
  out = CodedOutputStream::WriteTagToArray(kBytesTag, out);
  out = CodedOutputStream::WriteVarint32ToArray(inner, out);
  out = CodedOutputStream::WriteTagToArray(kCrcTag, out);
  uint8_t* const checksum = out;
  out = CodedOutputStream::WriteTagToArray(kDataTag, out + 4);
  out = CodedOutputStream::WriteVarint32ToArray(count, out);
  for (size_t left = count; left > 0;) {
    const absl::Span<const uint8_t> bytes = content.Next(left);
    std::memcpy(out, bytes.data(), bytes.size());
    *crc = ExtendCrc32c(*crc, absl::MakeSpan(out, bytes.size()));
    out += bytes.size();
    left -= bytes.size();
  }
  CodedOutputStream::WriteLittleEndian32ToArray(*crc, checksum);
  CHECK(out == slice.end());
  return grpc::ByteBuffer(&slice, 1);
}

std::optional<ArrivedBytes> ArrivedBytes::From(const grpc::ByteBuffer& buffer) {
  ArrivedBytes bytes;
  if (!buffer.Dump(&bytes.slices_).ok()) return std::nullopt;
  std::array<uint8_t, kLongestHeader> header;
  size_t filled = 0;
  for (const grpc::Slice& slice : bytes.slices_) {
    const size_t count = std::min(slice.size(), header.size() - filled);
    std::memcpy(header.data() + filled, slice.begin(), count);
    filled += count;
  }
  CodedInputStream input(header.data(), static_cast<int>(filled));
  uint32_t inner, count;
  if (input.ReadTag() != kBytesTag || !input.ReadVarint32(&inner)) return std::nullopt;
  const size_t before_inner = input.CurrentPosition();
  uint32_t tag = input.ReadTag();
  if (tag == kCrcTag) {
    uint32_t crc;
    if (!input.ReadLittleEndian32(&crc)) return std::nullopt;
    bytes.crc_ = crc;
    tag = input.ReadTag();
  }
  if (tag != kDataTag || !input.ReadVarint32(&count)) return std::nullopt;
  bytes.skip_ = input.CurrentPosition();
  bytes.size_ = count;
  // Nothing behind the bytes.
  if (before_inner + inner != bytes.skip_ + count || bytes.skip_ + count != buffer.Length()) {
    return std::nullopt;
  }
  return bytes;
}

ArrivedBytes ArrivedBytes::From(const ParcelBytes& message) {
  ArrivedBytes bytes;
  bytes.slices_.emplace_back(message.data());
  bytes.size_ = message.data().size();
  if (message.has_crc32c()) bytes.crc_ = message.crc32c();
  return bytes;
}

absl::Status ArrivedBytes::MoveTo(ByteWriter& to, uint32_t* crc) {
  CHECK_LE(size_, to.left());
  ForEachSpan(slices_, skip_, [&](absl::Span<const uint8_t> bytes) {
    while (!bytes.empty()) {
      const absl::Span<uint8_t> place = to.Next(bytes.size());
      std::memcpy(place.data(), bytes.data(), place.size());
      *crc = ExtendCrc32c(*crc, bytes.first(place.size()));
      bytes.remove_prefix(place.size());
    }
  });
  slices_.clear();
  if (!crc_) return absl::DataLossError("a parcel's bytes came without a checksum");
  if (*crc_ != *crc) return absl::DataLossError("a parcel was damaged on its way");
  return absl::OkStatus();
}

transfer::v1::Label ToProto(const ParcelLabel& label, uint64_t number, uint64_t link_epoch) {
  transfer::v1::Label message;
  message.set_number(number);
  message.set_incarnation(BytesOf(label.landing.incarnation));
  message.set_slot(label.landing.slot);
  message.set_link_epoch(link_epoch);
  message.set_size(label.bytes);
  message.set_dtype(ToProto(label.dtype));
  switch (label.kind) {
    case ParcelKind::kPixels: {
      transfer::v1::Pixels& pixels = *message.mutable_pixels();
      pixels.set_span_index(static_cast<uint32_t>(label.index));
      pixels.set_width(static_cast<uint32_t>(label.width));
      pixels.set_first_line(static_cast<uint32_t>(label.first));
      pixels.set_lines(static_cast<uint32_t>(label.count));
      break;
    }
    case ParcelKind::kRows: {
      transfer::v1::Rows& rows = *message.mutable_rows();
      rows.set_span_index(static_cast<uint32_t>(label.index));
      rows.set_first_row(static_cast<uint32_t>(label.first));
      rows.set_rows(static_cast<uint32_t>(label.count));
      break;
    }
    case ParcelKind::kPages: {
      transfer::v1::Pages& pages = *message.mutable_pages();
      pages.set_layer(static_cast<uint32_t>(label.index));
      pages.set_first_position(static_cast<uint32_t>(label.first));
      pages.set_positions(static_cast<uint32_t>(label.count));
      break;
    }
    case ParcelKind::kActivations: {
      transfer::v1::Activations& activations = *message.mutable_activations();
      activations.set_step(static_cast<uint64_t>(label.index));
      activations.set_first_row(static_cast<uint32_t>(label.first));
      activations.set_rows(static_cast<uint32_t>(label.count));
      break;
    }
  }
  return message;
}

absl::StatusOr<ParcelLabel> FromProto(const transfer::v1::Label& message) {
  ParcelLabel label;
  ASSIGN_OR_RETURN(label.landing.incarnation, IncarnationFrom(message.incarnation()));
  label.landing.slot = message.slot();
  label.bytes = message.size();
  ASSIGN_OR_RETURN(label.dtype, FromProto(message.dtype()));
  switch (message.content_case()) {
    case transfer::v1::Label::kPixels:
      label.kind = ParcelKind::kPixels;
      label.index = message.pixels().span_index();
      label.first = message.pixels().first_line();
      label.count = message.pixels().lines();
      label.width = message.pixels().width();
      break;
    case transfer::v1::Label::kRows:
      label.kind = ParcelKind::kRows;
      label.index = message.rows().span_index();
      label.first = message.rows().first_row();
      label.count = message.rows().rows();
      break;
    case transfer::v1::Label::kPages:
      label.kind = ParcelKind::kPages;
      label.index = message.pages().layer();
      label.first = message.pages().first_position();
      label.count = message.pages().positions();
      break;
    case transfer::v1::Label::kActivations:
      label.kind = ParcelKind::kActivations;
      // A step beyond 2^63 turns negative, which CheckLabel refuses.
      label.index = static_cast<int64_t>(message.activations().step());
      label.first = message.activations().first_row();
      label.count = message.activations().rows();
      break;
    case transfer::v1::Label::CONTENT_NOT_SET:
      return absl::InvalidArgumentError("label.content says nothing");
  }
  RETURN_IF_ERROR(CheckLabel(label));
  return label;
}

}  // namespace minicpmv
