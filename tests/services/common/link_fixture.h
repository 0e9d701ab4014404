#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/link/landings.h"
#include "services/common/incarnation.h"
#include "services/common/links.h"
#include "services/common/transfer_service.h"

namespace minicpmv {

inline constexpr char kLayout[] = "a layout of pages and rows";
// Beyond it a test has failed; nothing waits that long on purpose.
inline constexpr std::chrono::seconds kLongest(60);

// Bytes that are the same in every run; sent and compared with.
inline const std::vector<uint8_t>& TestBytes() {
  static const std::vector<uint8_t>* const bytes = [] {
    auto* const made = new std::vector<uint8_t>(size_t{9} << 20);
    std::mt19937 random(7);
    for (size_t i = 0; i < made->size(); i += 4) {
      const uint32_t word = random();
      std::memcpy(made->data() + i, &word, 4);
    }
    return made;
  }();
  return *bytes;
}

// `size` bytes of TestBytes from `offset` on, in pieces whose ends `salt` decides.
template <typename Byte>
auto PiecesOf(Byte* data, size_t size, uint32_t salt) {
  using View = std::conditional_t<std::is_const_v<Byte>, ConstTensorView, TensorView>;
  std::vector<View> pieces;
  for (size_t at = 0; at < size;) {
    const size_t count =
        pieces.size() == 2 ? size - at : std::min(size - at, (salt >> 3) % size + 1);
    pieces.push_back(View(data + at, DType::kU8, Shape{static_cast<int64_t>(count)}));
    at += count;
    salt = salt * 2654435761u + 1;
  }
  return pieces;
}

// A landing of any content: keeps what is being placed, compares it with TestBytes and counts.
// label.first is the offset there, label.index the number within the landing.
class Shelf : public Landing {
 public:
  absl::StatusOr<std::vector<TensorView>> Place(const ParcelLabel& label) override {
    if (on_place) RETURN_IF_ERROR(on_place(label));
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<uint8_t>& place = places_[label.index];
    place.assign(label.bytes, 0);
    return PiecesOf(place.data(), place.size(), static_cast<uint32_t>(label.index * 31 + 5));
  }
  void Landed(const ParcelLabel& label, const absl::Status& status) override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const std::vector<uint8_t>& place = places_[label.index];
      if (status.ok()) {
        CHECK_LE(label.first + label.bytes, TestBytes().size());
        if (std::memcmp(place.data(), TestBytes().data() + label.first, place.size()) != 0) {
          ++wrong;
        }
        if (label.index <= last_) ++disordered;
        last_ = label.index;
        ++landed;
      } else {
        ++failed;
        last_failure = status;
      }
      places_.erase(label.index);
    }
    if (on_landed) on_landed(label, status);
  }

  // Set before anything is sent.
  std::function<absl::Status(const ParcelLabel&)> on_place;
  std::function<void(const ParcelLabel&, const absl::Status&)> on_landed;
  std::atomic<int64_t> landed{0}, failed{0}, wrong{0}, disordered{0};
  absl::Status last_failure;  // read when nothing lands

 private:
  std::mutex mutex_;
  std::map<int64_t, std::vector<uint8_t>> places_;
  int64_t last_ = 0;
};

// Counts what links tell.
class CountingObserver : public LinkObserver {
 public:
  void OnLanded(absl::string_view, const ParcelLabel&, absl::Duration) override { ++landed; }
  void OnFailed(LinkFailure reason) override { ++failures[static_cast<size_t>(reason)]; }
  void OnRebuilt() override { ++rebuilt; }
  void OnStrips(int64_t held, int64_t free) override {
    held_strips += held;
    free_strips += free;
  }
  int64_t failed(LinkFailure reason) const { return failures[static_cast<size_t>(reason)]; }

  std::atomic<int64_t> landed{0}, rebuilt{0}, held_strips{0}, free_strips{0};
  std::array<std::atomic<int64_t>, 6> failures = {};
};

// A process that receives: landings behind a server on loopback.
class ReceivingWorker {
 public:
  explicit ReceivingWorker(int strips = 16, absl::Duration placing_deadline = absl::Seconds(30),
                           int64_t strip_bytes = kMaxParcelBytes)
      : landings(DrawIncarnation()),
        service_(Options(landings.incarnation(), strips, placing_deadline, strip_bytes), landings,
                 observer) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    CHECK(server_ != nullptr);
    address = absl::StrCat("127.0.0.1:", port);
  }
  ~ReceivingWorker() { Stop(); }
  void Stop() {
    if (server_ == nullptr) return;
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    server_ = nullptr;
  }

  common::v1::Destination To(const LandingName& name) const {
    common::v1::Destination destination;
    destination.set_worker_id("receiver");
    destination.set_address(address);
    destination.mutable_landing()->set_incarnation(BytesOf(name.incarnation));
    destination.mutable_landing()->set_slot(name.slot);
    return destination;
  }

  CountingObserver observer;
  Landings landings;
  std::string address;

 private:
  static TransferOptions Options(const Incarnation& incarnation, int strips,
                                 absl::Duration placing_deadline, int64_t strip_bytes) {
    TransferOptions options;
    options.worker_id = "receiver";
    options.incarnation = incarnation;
    options.layout_fingerprint = kLayout;
    options.strips = strips;
    options.strip_bytes = strip_bytes;
    options.placing_deadline = placing_deadline;
    return options;
  }

  TransferService service_;
  std::unique_ptr<grpc::Server> server_;
};

inline LinksOptions SenderOptions(const std::string& worker_id) {
  LinksOptions options;
  options.worker_id = worker_id;
  options.incarnation = DrawIncarnation();
  options.layout_fingerprint = kLayout;
  options.travel_deadline = absl::Seconds(30);
  options.first_backoff = absl::Milliseconds(1);
  options.last_backoff = absl::Milliseconds(20);
  return options;
}

// Parcel `index` of a landing: `size` of the TestBytes from `offset` on.
inline Parcel TestParcel(const LandingName& landing, int64_t index, size_t size,
                         int64_t offset = 0) {
  Parcel parcel;
  parcel.label.landing = landing;
  parcel.label.kind = ParcelKind::kRows;
  parcel.label.index = index;
  parcel.label.first = offset;
  parcel.label.count = 1;
  parcel.label.dtype = DType::kU8;
  parcel.label.bytes = size;
  parcel.content =
      PiecesOf(TestBytes().data() + offset, size, static_cast<uint32_t>(index * 17 + 3));
  return parcel;
}

// A value that another thread gives once. Waits are bounded. May end before that thread has
// returned from giving.
template <typename T>
class Given {
 public:
  // Gives, also when this is no more.
  std::function<void(T)> giver() {
    return [state = state_](T value) { Give(*state, std::move(value)); };
  }
  bool is_given() const {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    return state_->value.has_value();
  }
  std::optional<T> Wait() const {
    std::unique_lock<std::mutex> lock(state_->mutex);
    state_->given.wait_for(lock, kLongest, [this] { return state_->value.has_value(); });
    return state_->value;
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable given;
    std::optional<T> value;
  };
  static void Give(State& state, T value) {
    const std::lock_guard<std::mutex> lock(state.mutex);
    CHECK(!state.value.has_value());
    state.value = std::move(value);
    state.given.notify_all();
  }
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

// A ticket and how it ended.
class Outcome {
 public:
  Ticket ticket() { return end_.giver(); }
  absl::Status Wait() const {
    return end_.Wait().value_or(absl::DeadlineExceededError("no end of the ticket"));
  }
  bool is_open() const { return !end_.is_given(); }

 private:
  Given<absl::Status> end_;
};

inline absl::Status SendAndWait(Link& link, Parcel parcel) {
  Outcome outcome;
  link.Send(std::move(parcel), outcome.ticket());
  return outcome.Wait();
}

// Opens once; who waits sees it.
class Gate {
 public:
  void Open() { opened_.giver()(true); }
  bool Wait() const { return opened_.Wait().has_value(); }

 private:
  Given<bool> opened_;
};

}  // namespace minicpmv
