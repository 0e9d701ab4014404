#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "runtime/base/check.h"

namespace minicpmv::vision {

// Values by key within a bound of bytes. A value that is pinned stays; of the others the least
// recently used ones go when room is wanted. Thread-safe; outlives its pins and rooms.
template <typename Value>
class PinnedCache {
  struct Entry {
    std::string key;
    Value value;
    size_t bytes = 0;
    int64_t pins = 0;
  };

 public:
  // Bytes that nothing else can take any more, before there is a value to fill them. Given back
  // when destroyed.
  class Room {
   public:
    Room() = default;
    Room(Room&& other) noexcept : cache_(other.cache_), bytes_(std::exchange(other.bytes_, 0)) {}
    Room& operator=(Room&& other) noexcept {
      std::swap(cache_, other.cache_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Room() {
      if (bytes_ > 0) cache_->GiveBack(bytes_);
    }
    size_t bytes() const { return bytes_; }

   private:
    friend class PinnedCache;
    Room(PinnedCache* cache, size_t bytes) : cache_(cache), bytes_(bytes) {}
    PinnedCache* cache_ = nullptr;
    size_t bytes_ = 0;
  };

  // While this lives, the value stays where it is. Empty where nothing was found.
  class Pin {
   public:
    Pin() = default;
    Pin(Pin&& other) noexcept
        : cache_(other.cache_), entry_(std::exchange(other.entry_, nullptr)) {}
    Pin& operator=(Pin&& other) noexcept {
      std::swap(cache_, other.cache_);
      std::swap(entry_, other.entry_);
      return *this;
    }
    ~Pin() {
      if (entry_ != nullptr) cache_->Unpin(*entry_);
    }
    explicit operator bool() const { return entry_ != nullptr; }
    const Value& operator*() const { return entry_->value; }
    const Value* operator->() const { return &entry_->value; }
    // One more pin on the same value; empty if this one is.
    Pin Again() const { return entry_ == nullptr ? Pin() : cache_->PinAgain(*entry_); }

   private:
    friend class PinnedCache;
    Pin(PinnedCache* cache, Entry* entry) : cache_(cache), entry_(entry) {}
    PinnedCache* cache_ = nullptr;
    Entry* entry_ = nullptr;
  };

  // `room` is called, on the thread that made it so and without a lock, whenever there may be room
  // again.
  explicit PinnedCache(size_t capacity, std::function<void()> room = nullptr)
      : capacity_(capacity), room_(std::move(room)) {}
  PinnedCache(const PinnedCache&) = delete;
  ~PinnedCache() {
    CHECK_EQ(reserved_, size_t{0});
    CHECK_EQ(pinned_, size_t{0});
  }

  Pin Find(absl::string_view key) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = places_.find(key);
    if (found == places_.end()) return Pin();
    entries_.splice(entries_.end(), entries_, found->second);
    return PinLocked(*found->second);
  }

  // Nothing where pinned values and other rooms leave too little.
  std::optional<Room> Reserve(size_t bytes) {
    CHECK_GT(bytes, size_t{0});
    std::list<Entry> given_up;  // destroyed without the lock
    const std::lock_guard<std::mutex> lock(mutex_);
    if (bytes > capacity_ || capacity_ - bytes < reserved_ + pinned_) return std::nullopt;
    for (auto entry = entries_.begin(); bytes_ + reserved_ > capacity_ - bytes;) {
      const auto next = std::next(entry);
      if (entry->pins == 0) {
        places_.erase(entry->key);
        bytes_ -= entry->bytes;
        given_up.splice(given_up.end(), entries_, entry);
      }
      entry = next;
    }
    reserved_ += bytes;
    return Room(this, bytes);
  }

  // Fills the room. A key that is known keeps its value, and the room is given back.
  Pin Insert(std::string key, Room room, Value value) {
    const std::lock_guard<std::mutex> lock(mutex_);
    CHECK(room.cache_ == this && room.bytes_ > 0);
    reserved_ -= room.bytes_;
    const size_t bytes = std::exchange(room.bytes_, 0);
    const auto [found, is_new] = places_.try_emplace(key);
    if (is_new) {
      entries_.push_back({std::move(key), std::move(value), bytes, 0});
      found->second = std::prev(entries_.end());
      bytes_ += bytes;
    }
    return PinLocked(*found->second);
  }

  size_t capacity() const { return capacity_; }
  // Of values.
  size_t bytes() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return bytes_;
  }
  // Of values that are pinned, and of rooms: what cannot go.
  size_t held_bytes() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return pinned_ + reserved_;
  }

 private:
  Pin PinAgain(Entry& entry) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return PinLocked(entry);
  }
  Pin PinLocked(Entry& entry) {
    if (entry.pins++ == 0) pinned_ += entry.bytes;
    return Pin(this, &entry);
  }
  void Unpin(Entry& entry) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (--entry.pins > 0) return;
      pinned_ -= entry.bytes;
    }
    if (room_) room_();
  }
  void GiveBack(size_t bytes) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      reserved_ -= bytes;
    }
    if (room_) room_();
  }

  const size_t capacity_;
  const std::function<void()> room_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // least recently used first; guarded by mutex_, like all below
  absl::flat_hash_map<std::string, typename std::list<Entry>::iterator> places_;
  size_t bytes_ = 0;
  size_t pinned_ = 0;    // a part of bytes_
  size_t reserved_ = 0;  // beside bytes_
};

}  // namespace minicpmv::vision
