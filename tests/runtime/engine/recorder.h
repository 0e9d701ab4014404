#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "runtime/engine/sequence.h"

namespace minicpmv {

// Remembers what a sequence did; the test's thread waits for its end.
class Recorder final : public SequenceObserver {
 public:
  void OnToken(int32_t token) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    tokens_.push_back(token);
    if (on_token) on_token(token);
    changed_.notify_all();
  }
  void OnLogits(int64_t position, absl::Span<const float> logits) override {
    positions.push_back(position);
    rows.emplace_back(logits.begin(), logits.end());
  }
  void OnEnd(absl::StatusOr<Finish> finish) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++ends_;
    finish_ = std::move(finish);
    changed_.notify_all();
  }

  absl::StatusOr<Finish> Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return finish_.has_value(); });
    return *finish_;
  }
  void WaitForTokens(size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return tokens_.size() >= count || finish_.has_value(); });
  }
  std::vector<int32_t> tokens() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return tokens_;
  }
  int ends() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return ends_;
  }

  std::function<void(int32_t)> on_token;  // set before the sequence is submitted
  // Read after the end.
  std::vector<int64_t> positions;
  std::vector<std::vector<float>> rows;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int32_t> tokens_;
  std::optional<absl::StatusOr<Finish>> finish_;
  int ends_ = 0;
};

}  // namespace minicpmv
