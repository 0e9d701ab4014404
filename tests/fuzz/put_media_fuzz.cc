// Each piece is a message of one PutMedia: whatever comes in whatever order, what is taken is a
// picture of its digest, and nothing is held when the call is over.
#include <openssl/sha.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/common/deliver_messages.h"
#include "services/common/model_identity.h"
#include "services/vision/vision_service.h"
#include "tests/fuzz/pieces.h"
#include "tests/fuzz/stream_call.h"

namespace minicpmv {
namespace {

// Nothing is ever encoded here.
class NoEncoder final : public vision::SliceEncoder {
 public:
  absl::Status Encode(absl::Span<const Image* const>, absl::Span<const TensorView>) override {
    return absl::UnimplementedError("not here");
  }
};

class Home {
 public:
  Home() {
    LocalModelOptions options;
    options.folder = absl::StrCat(MINICPMV_SOURCE_DIR, "/tools/nano/model");
    options.parts = {.text = false, .decoder = false, .head = false};
    options.devices = {DeviceSpec{1}};
    model_ = *LocalModel::Load(options);
    WorkerOptions worker;
    worker.id = "home";
    worker.address = "127.0.0.1:1";
    worker.roles = {common::v1::ROLE_VISION};
    worker.identity = IdentityOf(*model_, "nano");
    worker_ = std::make_unique<Worker>(worker, metrics_);
    VisionOptions vision;
    vision.media.capacity = 1 << 20;
    vision.media.image.pixels = 1 << 16;
    service_ = *VisionService::Create(*worker_, *model_, vision, std::make_unique<NoEncoder>());
    server_ = std::make_unique<ServerWithoutPort>(*service_);
    worker_->SetReady();
  }

  void Run(const std::vector<absl::string_view>& pieces) {
    std::string bytes;  // of all chunks
    for (const absl::string_view piece : pieces) {
      vision::v1::PutMediaRequest request;
      if (request.ParseFromArray(piece.data(), static_cast<int>(piece.size()))) {
        bytes += request.chunk().data();
      }
    }
    std::vector<grpc::ByteBuffer> messages;
    for (const absl::string_view piece : pieces) messages.push_back(Completed(piece, bytes));
    const absl::Status end = server_->Call("/minicpmv.vision.v1.VisionService/PutMedia", messages);
    CHECK(!absl::IsDeadlineExceeded(end) && !absl::IsUnknown(end)) << end;
    CHECK_EQ(service_->media().held_bytes(), 0u);
  }

 private:
  // The message, with the right digest and size where it states any: no fuzzer finds a SHA-256.
  static grpc::ByteBuffer Completed(absl::string_view piece, const std::string& bytes) {
    vision::v1::PutMediaRequest request;
    if (!request.ParseFromArray(piece.data(), static_cast<int>(piece.size())) ||
        request.offer().digest() != "right") {
      return BufferOf(piece);
    }
    std::string digest(SHA256_DIGEST_LENGTH, '\0');
    SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
           reinterpret_cast<unsigned char*>(digest.data()));
    request.mutable_offer()->set_digest(digest);
    if (request.offer().size() == 1) request.mutable_offer()->set_size(bytes.size());
    return Encode(request);
  }

  Metrics metrics_;
  std::unique_ptr<LocalModel> model_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<VisionService> service_;
  std::unique_ptr<ServerWithoutPort> server_;
};

}  // namespace
}  // namespace minicpmv

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static minicpmv::Home& home = *new minicpmv::Home;
  home.Run(minicpmv::PiecesOf(data, size));
  return 0;
}
