#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "runtime/base/check.h"

namespace minicpmv {

// A bounded first-in, first-out queue from any number of producers to one consumer. Who waits
// sleeps. What one producer pushed comes out in its order. Nobody may be inside a call when it is
// destroyed.
template <typename T>
class Queue {
 public:
  explicit Queue(size_t capacity) : capacity_(capacity) { CHECK_GT(capacity, size_t{0}); }
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  // Waits for room. False when the queue is closed, before or while waiting: the item is dropped in
  // the caller's thread.
  [[nodiscard]] bool Push(T item) {
    std::unique_lock<std::mutex> lock(mutex_);
    room_.wait(lock, [this] { return closed_ || items_.size() < capacity_; });
    if (closed_) return false;
    items_.push_back(std::move(item));
    lock.unlock();
    item_.notify_one();
    return true;
  }

  // Waits for an item. After Close() what was pushed before still comes out; then nothing, at once
  // and for ever.
  std::optional<T> Pop() {
    std::unique_lock<std::mutex> lock(mutex_);
    item_.wait(lock, [this] { return closed_ || !items_.empty(); });
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    lock.unlock();
    room_.notify_one();
    return item;
  }

  // Wakes all who wait; nothing goes in any more. May be called again, from any thread.
  void Close() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      closed_ = true;
    }
    room_.notify_all();
    item_.notify_all();
  }

 private:
  const size_t capacity_;
  // std::mutex and not absl::Mutex: thread sanitizers see through it when the Abseil library was
  // built without them.
  std::mutex mutex_;
  std::condition_variable room_;  // producers wait here
  std::condition_variable item_;  // the consumer waits here
  std::deque<T> items_;           // guarded by mutex_
  bool closed_ = false;           // guarded by mutex_
};

}  // namespace minicpmv
