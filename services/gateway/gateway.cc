#include "services/gateway/gateway.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <chrono>
#include <functional>
#include <future>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/clock.h"
#include "runtime/base/status_macros.h"
#include "services/common/http_port.h"
#include "services/gateway/connection.h"
#include "services/gateway/ground.h"

namespace minicpmv::gateway {
namespace {

constexpr int kReaders = 2;
// For the last words to those whose requests are given up.
constexpr absl::Duration kFarewell = absl::Seconds(1);
constexpr absl::Duration kLookEvery = absl::Milliseconds(20);

}  // namespace

class Gateway::Room {
 public:
  Room(const GatewayOptions& options, Metrics& metrics)
      : options_(options),
        servers_(options.routers),
        metrics_(metrics),
        memory_(options.all_body_bytes, metrics_.body_bytes()),
        disk_room_(options.disk_bytes, metrics_.disk_bytes()),
        room_{memory_, disk_room_, options.disk_folder, options.body_memory_bytes},
        file_room_{memory_, disk_room_, options.disk_folder, /*in_memory=*/0},
        // Half of the room stays for bodies on their way, and for other tenants.
        files_({static_cast<size_t>(options.files), options.disk_bytes / 2, options.file_life}) {}

  ~Room() {
    if (ground_ && !is_shut_) Shutdown(absl::ZeroDuration());
    fetcher_ = nullptr;
    disk_.join();
    readers_.join();
    // What they were still reading may have asked a router before it saw that nobody waits.
    open_calls_.WaitForAll();
  }

  absl::Status Start(const ListenAddress& listen) {
    ASSIGN_OR_RETURN(
        port_, HttpPort::Open(listen, [this](HttpPort::Socket socket) {
          if (ground_->connections.size() < static_cast<size_t>(options_.connections)) {
            std::make_shared<Connection>(std::move(socket), *ground_)->Start();
          }
        }));
    if (!options_.remote_hosts.empty()) {
      fetcher_ = std::make_unique<Fetcher>(options_.remote_hosts, options_.fetch, memory_);
    }
    routers_.emplace(Routers{port_->loop(), servers_, open_calls_});
    ground_.emplace(Ground{options_,
                           *routers_,
                           readers_,
                           disk_,
                           metrics_,
                           room_,
                           file_room_,
                           files_,
                           fetcher_.get(),
                           absl::ToUnixSeconds(absl::Now()),
                           {}});
    port_->Run();
    return absl::OkStatus();
  }

  void Shutdown(absl::Duration grace) {
    is_shut_ = true;
    Run([this] {
      ground_->is_draining = true;
      port_->StopListening();
      ForEach([](Connection& connection) { connection.Drain(); });
    });
    AwaitRest(grace);
    Run([this] {
      ForEach([](Connection& connection) {
        connection.GiveUp(absl::UnavailableError("the gateway is shutting down"));
      });
    });
    AwaitRest(kFarewell);
    Run([this] { ForEach([](Connection& connection) { connection.Close(); }); });
    open_calls_.WaitForAll();
  }

 private:
  // On the loop's thread; waits for it.
  void Run(const std::function<void()>& call) {
    std::promise<void> done;
    boost::asio::post(port_->loop(), [&] {
      call();
      done.set_value();
    });
    done.get_future().wait();
  }

  void ForEach(const std::function<void(Connection&)>& call) {
    std::vector<std::shared_ptr<Connection>> all;
    for (Connection* const connection : ground_->connections) {
      all.push_back(connection->shared_from_this());
    }
    for (const std::shared_ptr<Connection>& connection : all) call(*connection);
  }

  // Until nothing is being answered, at the latest then.
  void AwaitRest(absl::Duration patience) {
    const absl::Time end = Clock::Monotonic().Now() + patience;
    while (true) {
      bool rests = false;
      Run([&] { rests = ground_->requests == 0; });
      const absl::Duration left = end - Clock::Monotonic().Now();
      if (rests || left <= absl::ZeroDuration()) return;
      std::this_thread::sleep_for(absl::ToChronoNanoseconds(std::min(left, kLookEvery)));
    }
  }

  const GatewayOptions options_;
  sdk::Servers servers_;
  GatewayMetrics metrics_;
  Allowance memory_, disk_room_;
  const BodyRoom room_, file_room_;
  FileStore files_;
  std::unique_ptr<Fetcher> fetcher_;
  OpenCalls open_calls_;
  boost::asio::thread_pool readers_{kReaders}, disk_{1};
  std::optional<Routers> routers_;
  std::optional<Ground> ground_;
  bool is_shut_ = false;
  std::unique_ptr<HttpPort> port_;  // ends first: what waits in its loop refers to all of the above
};

Gateway::~Gateway() = default;

absl::StatusOr<std::unique_ptr<Gateway>> Gateway::Start(const ListenAddress& listen,
                                                        const GatewayOptions& options,
                                                        Metrics& metrics) {
  RETURN_IF_ERROR(sdk::CheckOptions(options.routers));
  if (!listen.is_loopback() && options.keys.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(listen.text(), " can be reached from other machines: that needs API keys"));
  }
  std::unique_ptr<Gateway> gateway(new Gateway);
  gateway->address_ = listen.text();
  gateway->room_ = std::make_unique<Room>(options, metrics);
  RETURN_IF_ERROR(gateway->room_->Start(listen));
  return gateway;
}

void Gateway::Shutdown(absl::Duration grace) { room_->Shutdown(grace); }

}  // namespace minicpmv::gateway
