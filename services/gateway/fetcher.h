#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/gateway/body.h"
#include "services/gateway/remote_hosts.h"

namespace minicpmv::gateway {

struct FetchLimits {
  int64_t bytes = int64_t{20} << 20;            // of one picture
  absl::Duration patience = absl::Seconds(20);  // from the wish to its last byte
  int redirects = 3;
  size_t at_once = 16;    // that are under way
  size_t waiting = 1024;  // that are not yet
};

// Fetches pictures from listed hosts, on one thread of its own. Thread-safe.
//
// Each redirect is checked as the first address was, and so is every network address that a name
// turns out to have. No proxy, cookie or password of this machine is used.
class Fetcher {
 public:
  // Called once, on the fetcher's thread. INVALID_ARGUMENT: what is wrong with the address, or with
  // what came from there, in words that go on after the address's name. UNAVAILABLE: no room now.
  // CANCELLED.
  using Done = std::function<void(absl::StatusOr<CountedBytes>)>;
  using Number = uint64_t;

  // What is given outlives it.
  Fetcher(const RemoteHosts& hosts, const FetchLimits& limits, Allowance& memory);
  // Cancels all.
  ~Fetcher();
  Fetcher(const Fetcher&) = delete;
  Fetcher& operator=(const Fetcher&) = delete;

  Number Start(std::string url, Done done);
  // Its end is still told, where it was not.
  void Cancel(Number number);

 private:
  class Transfer;
  using Transfers = std::map<Number, std::unique_ptr<Transfer>>;

  void Run();
  // What was asked for meanwhile; false: to end.
  bool TakeOrders();
  void BeginWaiting();
  void TakeAnswers();
  void OnAnswer(Transfer& transfer, int result);
  void End(Number number, const absl::Status& status);

  const RemoteHosts& hosts_;
  const FetchLimits limits_;
  Allowance& memory_;
  void* const multi_;  // CURLM

  std::mutex mutex_;
  // Guarded by mutex_.
  Transfers ordered_;
  std::vector<Number> cancelled_;
  Number last_ = 0;
  bool is_ending_ = false;

  // The thread's own.
  Transfers transfers_;
  std::deque<Number> waiting_;  // of those
  size_t under_way_ = 0;

  std::thread thread_;
};

}  // namespace minicpmv::gateway
