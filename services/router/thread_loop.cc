#include "services/router/thread_loop.h"

#include <chrono>

#include "runtime/base/check.h"

namespace minicpmv::router {

class ThreadLoop::OneAlarm final : public Alarm {
 public:
  OneAlarm(ThreadLoop& loop, Key key) : loop_(loop), key_(key) {}
  ~OneAlarm() override { loop_.alarms_.erase(key_); }

 private:
  ThreadLoop& loop_;
  const Key key_;
};

ThreadLoop::ThreadLoop() : thread_([this] { RunAll(); }) {}

ThreadLoop::~ThreadLoop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_ending_ = true;
  }
  wake_.notify_one();
  thread_.join();
  CHECK(alarms_.empty()) << alarms_.size() << " alarms are set";
}

void ThreadLoop::Post(absl::AnyInvocable<void()> call) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (is_ending_) return;
    posted_.push_back(std::move(call));
    // Whoever is on the loop's thread finds it there without being woken.
    if (posted_.size() > 1 || std::this_thread::get_id() == thread_.get_id()) return;
  }
  wake_.notify_one();
}

std::unique_ptr<Loop::Alarm> ThreadLoop::At(absl::Time time, absl::AnyInvocable<void()> call) {
  const Key key(time, ++last_alarm_);
  alarms_.emplace(key, std::move(call));
  return std::make_unique<OneAlarm>(*this, key);
}

void ThreadLoop::Run(absl::AnyInvocable<void()> call) {
  std::mutex mutex;
  std::condition_variable done;
  bool is_done = false;
  Post([&] {
    call();
    // Told under the lock: who waits takes both away as soon as it is free.
    const std::lock_guard<std::mutex> lock(mutex);
    is_done = true;
    done.notify_one();
  });
  std::unique_lock<std::mutex> lock(mutex);
  done.wait(lock, [&] { return is_done; });
}

void ThreadLoop::RunAll() {
  std::vector<absl::AnyInvocable<void()>> calls;
  while (true) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      while (posted_.empty() && !is_ending_) {
        if (alarms_.empty() || alarms_.begin()->first.first == absl::InfiniteFuture()) {
          wake_.wait(lock);
          continue;
        }
        const absl::Duration rest = alarms_.begin()->first.first - Now();
        if (rest <= absl::ZeroDuration()) break;
        wake_.wait_for(lock, absl::ToChronoNanoseconds(std::min(rest, absl::Hours(1))));
      }
      if (posted_.empty() && is_ending_) return;
      calls.swap(posted_);
    }
    for (absl::AnyInvocable<void()>& call : calls) {
      call();
      call = nullptr;  // what it holds may end here, before the next one
    }
    calls.clear();
    // What was posted before an alarm was due comes first; an alarm that another one set for now
    // waits for the next round.
    const absl::Time now = Now();
    const uint64_t last = last_alarm_;
    while (!alarms_.empty()) {
      const auto next = alarms_.begin();
      if (next->first.first > now || next->first.second > last) break;
      absl::AnyInvocable<void()> call = std::move(next->second);
      alarms_.erase(next);
      call();
    }
  }
}

}  // namespace minicpmv::router
