// One life of a link whose sender says anything: the first piece asks to open it, the others are
// messages of Deliver. Whatever it says, each byte that is placed lies in a place of the landing,
// and afterwards nothing is being placed.
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/link/landings.h"
#include "services/common/deliver_messages.h"
#include "services/common/incarnation.h"
#include "services/common/transfer_service.h"
#include "services/common/transfer_version.h"
#include "tests/fuzz/pieces.h"
#include "tests/fuzz/stream_call.h"

namespace minicpmv {
namespace {

constexpr char kLayout[] = "layout";
constexpr int64_t kPlaces = 4, kPlaceBytes = 64 << 10;

// Places of one size; one parcel at a time in each.
class Places final : public Landing {
 public:
  absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (label.index >= kPlaces || label.bytes > static_cast<uint64_t>(kPlaceBytes)) {
      return absl::InvalidArgumentError("no such place");
    }
    if (placing_[label.index]) return absl::InvalidArgumentError("on its way already");
    placing_[label.index] = true;
    // In two pieces, of which the first may end anywhere.
    uint8_t* const bytes = bytes_.data() + label.index * kPlaceBytes;
    const auto size = static_cast<int64_t>(label.bytes);
    const int64_t cut = label.first % size;
    std::vector<TensorView> places;
    if (cut > 0) places.push_back(TensorView(bytes, DType::kU8, Shape{cut}));
    places.push_back(TensorView(bytes + cut, DType::kU8, Shape{size - cut}));
    return places;
  }
  void Landed(const ParcelLabel& label, const absl::Status&) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    CHECK(placing_[label.index]);
    placing_[label.index] = false;
  }
  void CheckRests() {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const bool placing : placing_) CHECK(!placing);
  }

 private:
  std::mutex mutex_;
  std::vector<uint8_t> bytes_ = std::vector<uint8_t>(kPlaces * kPlaceBytes);
  std::vector<bool> placing_ = std::vector<bool>(kPlaces);
};

class Receiver {
 public:
  Receiver() { landing_ = landings_.Open(places_); }

  void Run(const std::vector<absl::string_view>& pieces) {
    if (pieces.empty()) return;
    transfer::v1::OpenLinkRequest open;
    if (!open.ParseFromArray(pieces[0].data(), static_cast<int>(pieces[0].size()))) return;
    // Nobody guesses 16 bytes: who names any receiver names this one.
    if (!open.receiver().incarnation().empty()) {
      open.mutable_receiver()->set_incarnation(BytesOf(landings_.incarnation()));
    }
    transfer::v1::LinkLife life;
    *life.mutable_sender() = open.sender();
    *life.mutable_receiver() = open.receiver();
    transfer::v1::OpenLinkResponse opened;
    grpc::ClientContext context;
    const grpc::Status status = stub_->OpenLink(&context, open, &opened);
    CHECK(status.error_code() != grpc::StatusCode::INTERNAL &&
          status.error_code() != grpc::StatusCode::UNKNOWN)
        << status.error_message();
    life.set_link_epoch(opened.link_epoch());
    std::vector<grpc::ByteBuffer> messages;
    for (size_t i = 1; i < pieces.size(); ++i) messages.push_back(Completed(pieces[i], life));
    const absl::Status end =
        server_.Call("/minicpmv.transfer.v1.TransferService/Deliver", messages);
    CHECK(!absl::IsDeadlineExceeded(end) && !absl::IsInternal(end)) << end;
    transfer::v1::CloseLinkRequest close;
    *close.mutable_link() = life;
    transfer::v1::CloseLinkResponse closed;
    grpc::ClientContext closing;
    stub_->CloseLink(&closing, close, &closed);
    places_.CheckRests();
  }

 private:
  // The message, with the numbers of this life where it has any, and the checksum of a parcel that
  // comes in one message where it has one.
  grpc::ByteBuffer Completed(absl::string_view piece, const transfer::v1::LinkLife& life) const {
    transfer::v1::DeliverRequest message;
    if (!message.ParseFromArray(piece.data(), static_cast<int>(piece.size()))) {
      return BufferOf(piece);
    }
    if (message.has_link() && message.link().link_epoch() != 0) {
      *message.mutable_link() = life;
    } else if (message.has_label()) {
      transfer::v1::Label& label = *message.mutable_label();
      if (!label.incarnation().empty()) label.set_incarnation(BytesOf(landings_.incarnation()));
      if (label.slot() != 0) label.set_slot(landing_.slot);
      if (label.link_epoch() != 0) label.set_link_epoch(life.link_epoch());
    } else if (message.bytes().crc32c() == 1) {
      const std::string& data = message.bytes().data();
      message.mutable_bytes()->set_crc32c(
          ExtendCrc32c(0, {reinterpret_cast<const uint8_t*>(data.data()), data.size()}));
    } else {
      return BufferOf(piece);
    }
    return Encode(message);
  }

  Landings landings_{DrawIncarnation()};
  Places places_;
  LandingName landing_;
  LinkObserver observer_;
  TransferService service_{{.worker_id = "receiver",
                            .incarnation = landings_.incarnation(),
                            .layout_fingerprint = kLayout,
                            .strip_bytes = kPlaceBytes},
                           landings_,
                           observer_};
  ServerWithoutPort server_{service_};
  std::unique_ptr<transfer::v1::TransferService::Stub> stub_ =
      transfer::v1::TransferService::NewStub(server_.channel());
};

}  // namespace
}  // namespace minicpmv

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static minicpmv::Receiver& receiver = *new minicpmv::Receiver;
  receiver.Run(minicpmv::PiecesOf(data, size));
  return 0;
}
