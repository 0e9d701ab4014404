#pragma once

#include <cstdint>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/tensor/tensor.h"

namespace minicpmv {

// Positions that share one page of the cache.
inline constexpr int kPageSize = 16;

// One step of the engine flattened into arrays. A step is `pieces` runs of tokens, each of one sequence: a chunk of a prompt
// or the one token of a decode; their rows lie one after the other. All of it is on the host.
struct StepBatch {
  std::vector<int32_t> tokens;        // [rows] ids; where a span of embedding rows lies, any id of the vocabulary
  std::vector<int32_t> positions;     // [rows] of each token in its sequence, rising by one within a piece
  std::vector<int32_t> query_starts;  // [pieces + 1] first row of each piece; the last entry is rows
  std::vector<int32_t> page_starts;   // [pieces + 1] first entry of each piece in `pages`
  std::vector<int32_t> pages;         // page numbers, in the order of positions: position p is in entry p / kPageSize
  std::vector<int32_t> logit_rows;    // rows whose logits are wanted, rising

  // Embedding rows that take the place of tokens: rows[i] goes to row first_row + i of the step.
  struct Span {
    int32_t first_row = 0;
    ConstTensorView rows;  // [count, hidden], in any float dtype, on the first stage's device
  };
  std::vector<Span> spans;

  int rows() const { return static_cast<int>(tokens.size()); }
  int pieces() const { return static_cast<int>(query_starts.size()) - 1; }
};

// One layer's share of a stage's cache, as bytes: [pages][2: keys, values][kv_heads][kPageSize][head_size].
struct CacheLayer {
  void* data = nullptr;
  DType dtype = DType::kF32;  // f32, bf16 or f16
  int64_t pages = 0;
  int kv_heads = 0;
  int head_size = 0;

  int64_t head_elements() const { return int64_t{kPageSize} * head_size; }
  int64_t page_elements() const { return 2 * kv_heads * head_elements(); }
  size_t page_bytes() const { return static_cast<size_t>(page_elements()) * SizeOf(dtype); }

  // One page's bytes: [2 * kv_heads * kPageSize, head_size].
  TensorView Page(int32_t page) const {
    CHECK(page >= 0 && page < pages) << page << " of " << pages;
    return {static_cast<uint8_t*>(data) + page_bytes() * page, dtype, Shape{int64_t{2} * kv_heads * kPageSize, head_size}};
  }
};

}  // namespace minicpmv
