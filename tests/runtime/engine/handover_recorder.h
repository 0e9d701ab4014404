#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/engine/handover.h"

namespace minicpmv {

// Remembers what a prefill did. Pages go to `on_pages`, or count as sent at once.
class PrefillRecorder final : public PrefillObserver {
 public:
  void OnAdmitted(int64_t held_tokens) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    EXPECT_FALSE(held_.has_value());
    held_ = held_tokens;
    changed_.notify_all();
  }
  void OnPages(PageRun run, absl::AnyInvocable<void()> sent) override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      EXPECT_TRUE(held_.has_value() && !finish_.has_value());
      runs_[run.layer].emplace_back(run.first, run.count);
    }
    if (on_pages) {
      on_pages(std::move(run), std::move(sent));
    } else {
      sent();
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    changed_.notify_all();
  }
  void OnComputed(int64_t tokens) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    EXPECT_TRUE(computed_.empty() || tokens > computed_.back());
    computed_.push_back(tokens);
    changed_.notify_all();
  }
  void OnEnd(absl::StatusOr<Finish> finish) override {
    if (on_end) on_end(finish);
    const std::lock_guard<std::mutex> lock(mutex_);
    EXPECT_FALSE(finish_.has_value());
    finish_ = std::move(finish);
    changed_.notify_all();
  }

  absl::StatusOr<Finish> Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return finish_.has_value(); });
    return *finish_;
  }
  void WaitForRuns(size_t layers) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return runs_.size() >= layers || finish_.has_value(); });
  }
  bool has_ended() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return finish_.has_value();
  }
  int64_t held() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return held_.value_or(-1);
  }
  std::vector<int64_t> computed() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return computed_;
  }
  // True if every layer of `layers` showed [first, end) once, in order.
  bool HasShown(int64_t layers, int64_t first, int64_t end) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (first == end) return runs_.empty();
    for (int64_t layer = 0; layer < layers; ++layer) {
      int64_t next = first;
      for (const auto& [from, count] : runs_[layer]) {
        if (from != next || count < 1) return false;
        next += count;
      }
      if (next != end) return false;
    }
    return static_cast<int64_t>(runs_.size()) == layers;
  }

  // Set before the prefill is submitted.
  std::function<void(PageRun, absl::AnyInvocable<void()>)> on_pages;
  std::function<void(const absl::StatusOr<Finish>&)> on_end;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<int64_t> held_;
  std::map<int64_t, std::vector<std::pair<int64_t, int64_t>>> runs_;  // by layer
  std::vector<int64_t> computed_;
  std::optional<absl::StatusOr<Finish>> finish_;
};

// Remembers what a landing did.
class LandingRecorder final : public LandingObserver {
 public:
  void OnAdmitted(LandingPages pages) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    EXPECT_FALSE(pages_.has_value());
    pages_ = std::move(pages);
    changed_.notify_all();
  }
  void OnRecalled() override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      EXPECT_FALSE(recalled_);
      recalled_ = true;
      changed_.notify_all();
    }
    if (on_recalled) on_recalled();
  }
  void OnToken(int32_t token) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    tokens_.push_back(token);
    changed_.notify_all();
  }
  void OnEnd(absl::StatusOr<Finish> finish) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    EXPECT_FALSE(finish_.has_value());
    finish_ = std::move(finish);
    changed_.notify_all();
  }

  // Nothing where it ended without any.
  std::optional<LandingPages> WaitForPages() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return pages_.has_value() || finish_.has_value(); });
    return pages_;
  }
  void WaitForTokens(size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return tokens_.size() >= count || finish_.has_value(); });
  }
  void WaitForRecall() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return recalled_ || finish_.has_value(); });
  }
  absl::StatusOr<Finish> Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return finish_.has_value(); });
    return *finish_;
  }
  bool has_ended() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return finish_.has_value();
  }
  bool was_recalled() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return recalled_;
  }
  std::vector<int32_t> tokens() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return tokens_;
  }

  std::function<void()> on_recalled;  // set before the landing is submitted

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<LandingPages> pages_;
  bool recalled_ = false;
  std::vector<int32_t> tokens_;
  std::optional<absl::StatusOr<Finish>> finish_;
};

// What a link would do: the run's bytes to their places.
inline void CopyRun(const PageRun& run, const LandingPages& landing) {
  const auto places = landing.Places(run.layer, run.first, run.count);
  ASSERT_TRUE(places.ok()) << places.status();
  ASSERT_EQ(places->size(), run.pages.size());
  for (size_t i = 0; i < places->size(); ++i) {
    ASSERT_EQ((*places)[i].bytes(), run.pages[i].bytes());
    std::memcpy((*places)[i].data, run.pages[i].data, run.pages[i].bytes());
  }
}

// The prefill that a landing of this sequence needs.
inline PrefillRequest PrefillOf(const SequenceRequest& request, int64_t send_from) {
  PrefillRequest prefill;
  prefill.id = request.id;
  prefill.tokens = request.tokens;
  prefill.prompt_tokens = request.prompt_tokens;
  prefill.spans = request.spans;
  prefill.cache_scope = request.cache_scope;
  prefill.send_from = send_from;
  return prefill;
}

}  // namespace minicpmv
