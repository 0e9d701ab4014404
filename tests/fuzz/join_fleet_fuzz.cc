// What workers say of themselves, in any order: hellos, heartbeats, broken streams. Whatever the
// router believes of it places work nowhere that is not a worker.
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "runtime/base/check.h"
#include "services/router/fleet.h"
#include "services/router/placement.h"
#include "services/router/virtual_loop.h"
#include "tests/fuzz/pieces.h"

namespace minicpmv::router {
namespace {

class Stream final : public FleetStream {
 public:
  void Order(const control::v1::Order&) override { CHECK(!is_over_); }
  void End(const absl::Status& status) override {
    CHECK(!status.ok());
    is_over_ = true;
  }
  bool is_over() const { return is_over_; }

 private:
  bool is_over_ = false;
};

class Members {
 public:
  // The first byte of a piece says what happens.
  void Take(absl::string_view piece) {
    if (piece.empty()) return;
    const auto kind = static_cast<uint8_t>(piece[0]);
    piece.remove_prefix(1);
    switch (kind % 4) {
      case 0:
        return Join(piece);
      case 1:
        return Report(kind / 4, piece);
      case 2:
        return Leave(kind / 4);
      default:
        loop_.RunFor(absl::Milliseconds(100) * (kind / 4));
    }
  }

  void CheckViews() {
    const FleetSnapshot& snapshot = fleet_.Snapshot();
    for (const WorkerView& worker : snapshot.workers) {
      CHECK(!worker.name.id.empty() && worker.name.incarnation.size() == 16u);
      CHECK_GE(worker.page_tokens, 1);
      for (const auto& [role, view] : worker.roles) {
        CHECK(std::isfinite(view.rate) && view.rate >= 0 && view.outstanding >= 0);
      }
    }
    Job job;
    job.tokens = 100;
    job.new_tokens = 20;
    job.bytes_per_token = 100;
    const absl::StatusOr<Placement> placement = Place(job, snapshot);
    if (placement.ok()) {
      CHECK(!placement->decode.address.empty() && !placement->prefill.address.empty());
    }
    HomeOf("scope", std::string(32, 'd'), {}, snapshot).status().IgnoreError();
    fleet_.List({});
  }

 private:
  void Join(absl::string_view piece) {
    control::v1::WorkerHello hello;
    if (!hello.ParseFromArray(piece.data(), static_cast<int>(piece.size()))) return;
    auto stream = std::make_unique<Stream>();
    const absl::StatusOr<Fleet::StreamId> id = fleet_.Join(hello, *stream);
    if (id.ok()) streams_.emplace(*id, std::move(stream));
  }
  void Report(int number, absl::string_view piece) {
    control::v1::Heartbeat heartbeat;
    if (!heartbeat.ParseFromArray(piece.data(), static_cast<int>(piece.size()))) return;
    fleet_.Report(1 + number % 8, heartbeat).IgnoreError();
  }
  void Leave(int number) {
    const auto stream = streams_.find(1 + number % 8);
    if (stream == streams_.end()) return;
    if (!stream->second->is_over()) fleet_.Leave(stream->first);
  }

  VirtualLoop loop_;
  std::map<Fleet::StreamId, std::unique_ptr<Stream>> streams_;  // outlive the fleet
  Fleet fleet_{FleetOptions(), loop_};
};

}  // namespace
}  // namespace minicpmv::router

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  minicpmv::router::Members members;
  for (const absl::string_view piece : minicpmv::PiecesOf(data, size)) {
    members.Take(piece);
    members.CheckViews();
  }
  return 0;
}
