#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <queue>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "tools/minicpmv/load/load_plan.h"
#include "tools/minicpmv/load/request_record.h"
#include "tools/sdk/cpp/client.h"
#include "tools/sdk/cpp/reply_stream.h"

namespace minicpmv {

struct LoadRunOptions {
  int streams = 256;        // replies open at once, at most; what is due beyond them waits
  absl::Duration duration;  // no turn is sent that is due later
  absl::Duration timeout = absl::Minutes(5);  // of a request, from when it is due
  int64_t context_tokens = 0;
  double tokens_per_word = 1;
};

// How far a load is.
struct LoadProgress {
  absl::Duration at;
  int64_t sent = 0, waiting = 0, open = 0, completed = 0, refused = 0, failed = 0, tokens = 0;
};

// Sends a plan when it is time, whatever the server makes of it, and notes what comes back. A
// conversation ends with its last turn, with its first error, or before a turn that the context has
// no room for.
class LoadRun {
 public:
  // Outlives this. Its patience decides which errors are seen here.
  LoadRun(sdk::Client& client, std::vector<PlannedConversation> plan,
          const LoadRunOptions& options);
  ~LoadRun();

  // Tells `progress` once a second, from this thread. Returns when all that was sent has ended: at
  // the latest a timeout after the duration.
  std::vector<RequestRecord> Run(absl::FunctionRef<void(const LoadProgress&)> progress);
  // Nothing more is sent, and replies that are open are cancelled: they have no records. Run
  // returns with the others. Thread-safe.
  void Stop();

  // Until the last reply's end. After Run.
  absl::Duration elapsed() const { return elapsed_; }
  // How late a conversation was ready to be sent, at most, because this machine had no time to draw
  // its pictures. After Run.
  absl::Duration lateness() const { return lateness_; }

 private:
  struct Talk;  // a conversation on its way
  struct Due {
    absl::Duration at;
    std::shared_ptr<Talk> talk;
    bool operator>(const Due& other) const { return at > other.at; }
  };

  absl::Duration Now() const;
  void Draw();
  void Send();
  // Adds the turn's message to what is said.
  void Say(Talk& talk) const;
  RequestRecord Ask(Talk& talk, absl::Duration due);
  // Notes what comes, to the end.
  absl::Status Listen(sdk::ReplyStream& stream, Talk& talk, RequestRecord& record);
  // Whether the context has room for the next turn.
  bool HasRoom(const Talk& talk) const;
  bool IsOver() const;            // mutex_ is held
  LoadProgress Progress() const;  // mutex_ is held

  sdk::Client& client_;
  const std::vector<PlannedConversation> plan_;
  const LoadRunOptions options_;
  const absl::Time start_;

  mutable std::mutex mutex_;
  std::condition_variable changed_, may_draw_, may_send_;
  std::priority_queue<Due, std::vector<Due>, std::greater<Due>> due_;
  std::deque<Due> ready_;                // due now, and waiting for a stream
  size_t drawn_ = 0;                     // conversations of the plan
  size_t begun_ = 0;                     // of them, that are not ahead of their time any more
  std::set<sdk::ReplyStream*> streams_;  // open ones
  int64_t open_ = 0, sent_ = 0, tokens_ = 0, completed_ = 0, refused_ = 0;
  bool is_stopped_ = false;
  std::vector<RequestRecord> records_;
  absl::Duration elapsed_, lateness_;
  std::vector<std::thread> threads_;
};

}  // namespace minicpmv
