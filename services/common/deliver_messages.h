#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "minicpmv/transfer/v1/transfer_service.pb.h"
#include "runtime/link/parcel.h"

namespace minicpmv {

// Messages of TransferService.Deliver as gRPC's buffers. The bytes of parcels are copied once at
// each end: on the way out from the sender's views into the buffer, on the way in from the buffer
// into their places. On the wire they are DeliverRequest and DeliverResponse to the letter.

grpc::ByteBuffer Encode(const google::protobuf::MessageLite& message);
// False: not such a message.
bool Decode(grpc::ByteBuffer buffer, google::protobuf::MessageLite* message);

// The CRC-32C of some bytes and those after them; 0 is the one of no bytes.
uint32_t ExtendCrc32c(uint32_t crc, absl::Span<const uint8_t> bytes);

// A DeliverRequest with the next bytes of a parcel, as many as one message carries. `crc` is that
// of what was sent before, and then of all.
grpc::ByteBuffer EncodeBytes(ByteReader& content, uint32_t* crc);

// A DeliverRequest that carries bytes, read without a copy of them.
class ArrivedBytes {
 public:
  // Nothing: another event, or bytes in a form that only Decode reads. Bytes beyond what one
  // message may carry are told by size().
  static std::optional<ArrivedBytes> From(const grpc::ByteBuffer& buffer);
  static ArrivedBytes From(const transfer::v1::ParcelBytes& message);

  size_t size() const { return size_; }
  // Copies all, once. `to` has room for them. `crc` as in EncodeBytes. DATA_LOSS: the message's
  // checksum is another, or there is none.
  absl::Status MoveTo(ByteWriter& to, uint32_t* crc);

 private:
  std::vector<grpc::Slice> slices_;  // all of the message
  size_t skip_ = 0;                  // what is before the bytes
  size_t size_ = 0;
  std::optional<uint32_t> crc_;
};

// The label, and back. `label` has passed CheckLabel. INVALID_ARGUMENT names the field.
transfer::v1::Label ToProto(const ParcelLabel& label, uint64_t number, uint64_t link_epoch);
absl::StatusOr<ParcelLabel> FromProto(const transfer::v1::Label& label);

}  // namespace minicpmv
