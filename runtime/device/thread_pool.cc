#include "runtime/device/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/base/check.h"

namespace minicpmv {

// std::mutex and not absl::Mutex: thread sanitizers see through it when the Abseil library was
// built without them.
struct ThreadPool::Shared {
  explicit Shared(int threads) : threads(threads) {}

  // Calls tasks until none is left to claim.
  void Claim(absl::FunctionRef<void(int64_t)> work, int64_t tasks) {
    for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) work(task);
  }

  // The life of a helper. It joins a round that is still open and sleeps through one that closed
  // before it woke, so nobody ever waits for a thread that has nothing to do.
  void Help() {
    std::unique_lock<std::mutex> lock(mutex);
    for (uint64_t seen = 0;;) {
      start.wait(lock, [&] { return stop || (work != nullptr && round != seen); });
      if (stop) return;
      seen = round;
      ++helping;
      const absl::FunctionRef<void(int64_t)> mine = *work;
      const int64_t count = tasks;
      lock.unlock();
      Claim(mine, count);
      lock.lock();
      if (--helping == 0) done.notify_one();
    }
  }

  const int threads;
  std::mutex turn;  // held by the caller of Run

  std::atomic<int64_t> next = 0;  // the next task of the open round
  std::mutex mutex;               // guards all below
  std::condition_variable start;  // helpers wait here for a round
  std::condition_variable done;   // the caller of Run waits here for helpers
  const absl::FunctionRef<void(int64_t)>* work = nullptr;  // null: no round is open
  int64_t tasks = 0;
  uint64_t round = 0;
  int helping = 0;
  bool stop = false;
  std::vector<std::thread> helpers;
};

ThreadPool::ThreadPool(int threads) : shared_(std::make_unique<Shared>(threads)) {
  CHECK_GE(threads, 1);
  for (int i = 1; i < threads; ++i)
    shared_->helpers.emplace_back([shared = shared_.get()] { shared->Help(); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->stop = true;
  }
  shared_->start.notify_all();
  for (std::thread& helper : shared_->helpers) helper.join();
}

int ThreadPool::threads() const { return shared_->threads; }

void ThreadPool::Run(int64_t tasks, absl::FunctionRef<void(int64_t)> work) {
  Shared& s = *shared_;
  const std::lock_guard<std::mutex> turn(s.turn);
  if (tasks <= 1 || s.threads == 1) {  // nobody is woken for what one thread does
    for (int64_t task = 0; task < tasks; ++task) work(task);
    return;
  }
  {
    const std::lock_guard<std::mutex> lock(s.mutex);
    s.next.store(0, std::memory_order_relaxed);
    s.work = &work;
    s.tasks = tasks;
    ++s.round;
  }
  if (tasks >= s.threads) {
    s.start.notify_all();
  } else {
    for (int64_t i = 1; i < tasks; ++i) s.start.notify_one();
  }
  s.Claim(work, tasks);
  std::unique_lock<std::mutex> lock(s.mutex);
  s.work = nullptr;
  s.done.wait(lock, [&] { return s.helping == 0; });
}

}  // namespace minicpmv
