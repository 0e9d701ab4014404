#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

namespace minicpmv {

// Functions that want to be called on some occasion. Thread-safe; calls come one at a time. A
// listener neither adds nor removes one.
template <typename... Arguments>
class Listeners {
 public:
  // The function is not called any more once its entry is gone. Lives no longer than the list.
  class Entry {
   public:
    Entry(Listeners& list, int64_t id) : list_(list), id_(id) {}
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;
    ~Entry() {
      const std::lock_guard<std::mutex> lock(list_.mutex_);
      list_.functions_.erase(id_);
    }

   private:
    Listeners& list_;
    const int64_t id_;
  };

  [[nodiscard]] std::unique_ptr<Entry> Add(std::function<void(Arguments...)> function) {
    const std::lock_guard<std::mutex> lock(mutex_);
    functions_.emplace(++last_id_, std::move(function));
    return std::make_unique<Entry>(*this, last_id_);
  }

  // Calls all, in the order in which they came.
  void Tell(Arguments... arguments) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto& [id, function] : functions_) function(arguments...);
  }

 private:
  std::mutex mutex_;
  int64_t last_id_ = 0;                                             // guarded by mutex_
  std::map<int64_t, std::function<void(Arguments...)>> functions_;  // guarded by mutex_
};

}  // namespace minicpmv
