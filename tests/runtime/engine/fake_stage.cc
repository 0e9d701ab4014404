#include "tests/runtime/engine/fake_stage.h"

#include <algorithm>
#include <limits>
#include <thread>
#include <utility>

#include "runtime/base/check.h"

namespace minicpmv {
namespace {

// A number that depends on every bit of both.
uint64_t Mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15;
  return hash ^ hash >> 29;
}

std::vector<float> LogitsOf(uint64_t hash) {
  std::vector<float> logits(FakeModel::kVocabulary);
  for (size_t id = 0; id < logits.size(); ++id) {
    logits[id] = static_cast<float>(Mix(hash, id) % 100000) / 10000.0f;
  }
  return logits;
}

uint64_t HashOf(const std::vector<int64_t>& codes) {
  uint64_t hash = 1;
  for (int64_t code : codes) hash = Mix(hash, static_cast<uint64_t>(code));
  return hash;
}

}  // namespace

std::vector<float> FakeModel::LogitsAfter(const std::vector<int32_t>& history) {
  return LogitsOf(HashOf({history.begin(), history.end()}));
}

std::vector<int32_t> FakeModel::Continue(std::vector<int32_t> history, int64_t count, bool stops) {
  std::vector<int32_t> tokens;
  while (static_cast<int64_t>(tokens.size()) < count) {
    if (stops && !tokens.empty() && tokens.back() == kStop) break;
    const std::vector<float> logits = LogitsAfter(history);
    tokens.push_back(
        static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    history.push_back(tokens.back());
  }
  return tokens;
}

FakeStage::FakeStage(int64_t pages, int64_t layer, bool is_last, Behaviour& behaviour,
                     uint32_t seed)
    : layer_(layer),
      is_last_(is_last),
      behaviour_(behaviour),
      device_("fake:0", 1),
      stream_(device_.NewStream()),
      cache_(pages * kPageSize, std::numeric_limits<int64_t>::min()),
      layer_view_{cache_.data(), DType::kF32, pages, /*kv_heads=*/1, /*head_size=*/1},
      random_(seed) {
  CHECK_EQ(layer_view_.page_bytes(), kPageSize * sizeof(int64_t));
}

FakeStage::~FakeStage() { (void)stream_->Wait(); }

void FakeStage::Forward(const StageStep& step, absl::AnyInvocable<void(StageResult)> ended) {
  stream_->Call([this, &step, ended = std::move(ended)]() mutable {
    absl::Status status = Compute(step);
    if (status.ok() && step.layer_ended) step.layer_ended(layer_);
    ended({std::move(status), absl::Microseconds(100 + step.batch.rows())});
  });
}

absl::Status FakeStage::Compute(const StageStep& step) {
  if (behaviour_.delay > absl::ZeroDuration()) {
    random_ = random_ * 1664525 + 1013904223;
    const int64_t most = absl::ToInt64Microseconds(behaviour_.delay);
    std::this_thread::sleep_for(std::chrono::microseconds((random_ >> 8) % most));
  }
  const int number = step_++;
  if (number == behaviour_.halts_at_step) behaviour_.halts_at_step.wait(number);
  const int fails_at = behaviour_.fails_at_step;
  if (fails_at >= 0 && number >= fails_at) return absl::UnavailableError("the fake device broke");

  for (const PageCopy& copy : step.copies) {
    std::copy_n(&cache_[copy.from * kPageSize], kPageSize, &cache_[copy.to * kPageSize]);
    ++behaviour_.copies;
  }
  const StepBatch& batch = step.batch;
  CHECK_EQ(step.hidden.rows(), batch.rows());
  CHECK_EQ(step.logits.rows(), static_cast<int64_t>(batch.logit_rows.size()));
  float* hidden = step.hidden.as<float>();
  if (layer_ == 0) {
    for (int row = 0; row < batch.rows(); ++row) {
      hidden[row * FakeModel::kHidden] = static_cast<float>(batch.tokens[row]);
    }
    for (const StepBatch::Span& span : batch.spans) {
      for (int64_t i = 0; i < span.rows.rows(); ++i) {
        hidden[(span.first_row + i) * FakeModel::kHidden] =
            -1 - span.rows.Rows(i, 1).as<float>()[0];
      }
    }
  }
  std::vector<std::vector<int64_t>> histories;  // of each row
  for (int piece = 0; piece < batch.pieces(); ++piece) {
    const int32_t* pages = &batch.pages[batch.page_starts[piece]];
    const int held = batch.page_starts[piece + 1] - batch.page_starts[piece];
    for (int row = batch.query_starts[piece]; row < batch.query_starts[piece + 1]; ++row) {
      const int position = batch.positions[row];
      CHECK_LT(position / kPageSize, held);
      cache_[pages[position / kPageSize] * kPageSize + position % kPageSize] =
          static_cast<int64_t>(hidden[row * FakeModel::kHidden]);
      std::vector<int64_t>& history = histories.emplace_back();
      for (int p = 0; p <= position; ++p) {
        history.push_back(cache_[pages[p / kPageSize] * kPageSize + p % kPageSize]);
      }
    }
  }
  if (is_last_) {
    for (size_t i = 0; i < batch.logit_rows.size(); ++i) {
      const std::vector<float> logits = LogitsOf(HashOf(histories[batch.logit_rows[i]]));
      std::copy(logits.begin(), logits.end(), step.logits.Rows(i, 1).as<float>());
    }
    if (number == behaviour_.nan_at_step && !batch.logit_rows.empty()) {
      step.logits.as<float>()[5] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  return absl::OkStatus();
}

}  // namespace minicpmv
