#include "tools/sdk/cpp/upload.h"

#include <openssl/sha.h>

#include <memory>
#include <string>

#include "tools/sdk/cpp/status.h"

namespace minicpmv::sdk {
namespace {

constexpr size_t kChunkBytes = 256 << 10;

std::string Sha256(absl::string_view bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(),
         reinterpret_cast<uint8_t*>(digest.data()));
  return digest;
}

using Stream =
    grpc::ClientReaderWriter<chat::v1::UploadMediaRequest, chat::v1::UploadMediaResponse>;

// A write that fails says nothing; the call's status does.
void WriteChunks(Stream& stream, absl::string_view bytes) {
  for (size_t offset = 0; offset < bytes.size();) {
    const chat::v1::UploadMediaRequest request = UploadChunkOf(bytes, offset);
    if (!stream.Write(request)) return;
    offset += request.chunk().data().size();
  }
}

}  // namespace

chat::v1::UploadMediaRequest UploadOfferOf(absl::string_view bytes) {
  chat::v1::UploadMediaRequest request;
  request.mutable_offer()->set_digest(Sha256(bytes));
  request.mutable_offer()->set_size(bytes.size());
  return request;
}

chat::v1::UploadMediaRequest UploadChunkOf(absl::string_view bytes, size_t offset) {
  chat::v1::UploadMediaRequest request;
  request.mutable_chunk()->set_offset(offset);
  request.mutable_chunk()->set_data(std::string(bytes.substr(offset, kChunkBytes)));
  return request;
}

absl::StatusOr<chat::v1::UploadedMedia> Upload(chat::v1::ChatService::Stub& stub,
                                               grpc::ClientContext& context,
                                               const chat::v1::UploadMediaRequest& offer,
                                               absl::string_view bytes) {
  const std::unique_ptr<Stream> stream = stub.UploadMedia(&context);
  stream->Write(offer);
  chat::v1::UploadMediaResponse response;
  if (stream->Read(&response)) {
    if (response.decision() == chat::v1::UploadMediaResponse::DECISION_SEND) {
      WriteChunks(*stream, bytes);
    }
    stream->WritesDone();
    while (!response.has_media() && stream->Read(&response)) {
    }
  }
  if (const grpc::Status status = stream->Finish(); !status.ok()) return FromGrpc(status);
  if (!response.has_media()) {
    return absl::UnavailableError("the server ended an upload without a handle");
  }
  return response.media();
}

}  // namespace minicpmv::sdk
