// Attention over paged caches and over plain rows, and the rotary code that feeds the cache.
//
// Keys are taken in blocks of 64, counted from the first. A block is widened into scratch (the keys
// transposed) and serves a tile of queries at a time: scores, their exponentials under the block's
// own maximum, and the mix of the values, each sum over one thing in rising order; then the block
// joins what came before it. So a query's result depends on nothing but the query and the positions
// it sees.

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "absl/functional/function_ref.h"
#include "runtime/kernels/cpu/targets.h"
#include "runtime/kernels/cpu/verbs.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/kernels/cpu/attention.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "runtime/kernels/cpu/tile-inl.h"
#include "runtime/kernels/cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace minicpmv {
namespace HWY_NAMESPACE {
#if HWY_MAX_BYTES >= 32

constexpr int kBlock = 64;               // keys
constexpr int kTile = 2 * kWidth;        // keys, or elements of values, of one tile
constexpr int64_t kQueriesAtOnce = 192;  // queries that share a widened block
static_assert(kBlock % kTile == 0);

// --- A block of keys and values in scratch.

// The first `count` positions of a block: keys [head_size, kBlock], transposed, with zeros up to
// the next whole tile; values [kBlock, width], with zeros past head_size. key(j) and value(j) point
// at the rows of position j.
template <typename Key, typename Value>
void WidenBlock(const Key& key, const Value& value, int64_t count, int head_size, int64_t width,
                float* keys, float* values) {
  using T = std::remove_pointer_t<decltype(key(0))>;
  constexpr int kLine = 64 / sizeof(T);
  for (int64_t j = 0; j < (count + kTile - 1) / kTile * kTile; j += 8) {
    const int64_t here = std::clamp<int64_t>(count - j, 0, 8);
    const T* rows[8];
    for (int64_t i = 0; i < here; ++i) rows[i] = key(j + i);
    for (int64_t i = j + 8; i < std::min(j + 16, count);
         ++i) {  // rows are far apart: no pattern that the CPU would see
      const T* next_key = key(i);
      const T* next_value = value(i);
      for (int d = 0; d < head_size; d += kLine) {
        hwy::Prefetch(next_key + d);
        hwy::Prefetch(next_value + d);
      }
    }
    for (int d = 0; d < head_size; d += 8) {
      const int left = head_size - d;
      V8 tile[8];
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        tile[i] = hn::Zero(f8);
        if (i < here) tile[i] = left >= 8 ? Load8(rows[i] + d) : LoadPart(rows[i] + d, left);
      }
      Transpose8(tile);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        if (i < left) hn::StoreU(tile[i], f8, keys + (d + i) * kBlock + j);
      }
    }
    for (int64_t i = 0; i < here; ++i) {
      const T* from = value(j + i);
      float* to = values + (j + i) * width;
      int64_t d = 0;
      for (; d + 8 <= head_size; d += 8) hn::StoreU(Load8(from + d), f8, to + d);
      if (d < head_size) {
        hn::StoreU(LoadPart(from + d, head_size - d), f8, to + d);
        d += 8;
      }
      for (; d < width; d += 8) hn::StoreU(hn::Zero(f8), f8, to + d);
    }
  }
}

// --- A tile of queries against a block.

// The state of a query between two blocks: the largest score so far, the sum of exponentials under
// it.
struct Running {
  float largest = -std::numeric_limits<float>::infinity();
  float sum = 0;
};

// What the two sides of a join are multiplied by.
struct Factors {
  float before, block;
};

// Turns the scores of the first `seen` keys of the block into exponentials, the rest up to `keys`
// into zeros, and joins their maximum and sum to `running`.
HWY_INLINE Factors Exponentials(float* scores, int64_t seen, int64_t keys, Running& running) {
  const float nothing = -std::numeric_limits<float>::infinity();
  if (seen <= 0) {
    std::fill(scores, scores + keys, 0.0f);
    return {1, 0};
  }
  const int64_t whole = seen / 8 * 8;
  const auto visible =
      hn::FirstN(f8, static_cast<size_t>(seen - whole));  // of the vector that is cut
  V8 maxima = hn::Set(f8, nothing);
  for (int64_t j = 0; j < whole; j += 8) maxima = hn::Max(maxima, hn::LoadU(f8, scores + j));
  if (whole < seen) {
    maxima = hn::Max(maxima,
                     hn::IfThenElse(visible, hn::LoadU(f8, scores + whole), hn::Set(f8, nothing)));
  }
  const float largest = hn::GetLane(hn::MaxOfLanes(f8, maxima));
  const V8 base = hn::Set(f8, largest);
  V8 sums = hn::Zero(f8);
  int64_t j = 0;
  for (; j < whole; j += 8) {
    const V8 exponential = ExpOfNegative(f8, hn::Sub(hn::LoadU(f8, scores + j), base));
    hn::StoreU(exponential, f8, scores + j);
    sums = hn::Add(sums, exponential);
  }
  if (j < seen) {
    const V8 exponential = ExpOfNegative(f8, hn::Sub(hn::LoadU(f8, scores + j), base));
    const V8 kept = hn::IfThenElseZero(visible, exponential);
    hn::StoreU(kept, f8, scores + j);
    sums = hn::Add(sums, kept);
    j += 8;
  }
  for (; j < keys; j += 8) hn::StoreU(hn::Zero(f8), f8, scores + j);
  const float joined = std::max(running.largest, largest);
  const hn::FixedTag<float, 4> f4;
  alignas(16) float factors[4] = {running.largest - joined, largest - joined, 0, 0};
  hn::Store(ExpOfNegative(f4, hn::Load(f4, factors)), f4, factors);
  running.largest = joined;
  running.sum = running.sum * factors[0] + SumLanes(sums) * factors[1];
  return {factors[0], factors[1]};
}

// kRows queries, packed [head_size, kRows], against the first `keys` keys of a block; row r sees
// seen[r] of them. Joins the mix of the values to sums [kRows, width].
template <int kRows>
HWY_NOINLINE void AttendTile(const float* queries, const float* key_block, const float* values,
                             int64_t keys, int head_size, int64_t width, const int64_t* seen,
                             Running* running, float* sums) {
  HWY_ALIGN float scores[kRows * kBlock];
  for (int64_t j = 0; j < keys; j += kTile) {
    VW c[kRows][2];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) c[r][0] = c[r][1] = hn::Zero(fw);
    Accumulate<kRows, 2, 1>(queries, kRows, key_block + j, kBlock, head_size, c);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      hn::StoreU(c[r][0], fw, scores + r * kBlock + j);
      hn::StoreU(c[r][1], fw, scores + r * kBlock + j + kWidth);
    }
  }
  Factors factors[kRows];
  for (int r = 0; r < kRows; ++r)
    factors[r] = Exponentials(scores + r * kBlock, seen[r], keys, running[r]);
  const auto mix = [&](auto vectors, int64_t d) {
    constexpr int kVectors = decltype(vectors)::value;
    VW c[kRows][kVectors];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) c[r][v] = hn::Zero(fw);
    }
    Accumulate<kRows, kVectors, kBlock>(scores, 1, values + d, width, keys, c);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        float* to = sums + r * width + d + v * kWidth;
        const VW before = hn::Mul(hn::LoadU(fw, to), hn::Set(fw, factors[r].before));
        hn::StoreU(hn::MulAdd(c[r][v], hn::Set(fw, factors[r].block), before), fw, to);
      }
    }
  };
  int64_t d = 0;
  for (; d + kTile <= width; d += kTile) mix(std::integral_constant<int, 2>(), d);
  if (d < width) mix(std::integral_constant<int, 1>(), d);
}

// --- Many queries against all blocks.

// `count` queries of one key head. query(i) and out(i) point at head_size floats; query i sees the
// first seen(i) >= 1 keys, a number that does not fall with i; widen(first, count, keys, values)
// brings a block into scratch.
void Attend(int64_t count, int head_size, absl::FunctionRef<const float*(int64_t)> query,
            absl::FunctionRef<int64_t(int64_t)> seen,
            absl::FunctionRef<void(int64_t, int64_t, float*, float*)> widen,
            absl::FunctionRef<float*(int64_t)> out, Arena& arena) {
  const int64_t width = (head_size + kWidth - 1) / kWidth * kWidth;
  const int64_t tiles = (count + kTileRows - 1) / kTileRows;
  const int64_t tile_rows = (count + tiles - 1) / tiles;
  float* keys = arena.Floats((head_size + width) * kBlock + count * (head_size + width));
  float* values = keys + head_size * kBlock;
  float* packed = values + width * kBlock;
  float* sums = packed + count * head_size;
  std::fill(sums, sums + count * width, 0.0f);
  std::vector<Running> running(static_cast<size_t>(count));

  const float scale = 1 / std::sqrt(static_cast<float>(head_size));
  for (int64_t first = 0; first < count; first += tile_rows) {
    const int64_t rows = std::min(tile_rows, count - first);
    for (int64_t r = 0; r < rows; ++r) {
      const float* from = query(first + r);
      float* to = packed + first * head_size + r;
      for (int d = 0; d < head_size; ++d) to[d * rows] = from[d] * scale;
    }
  }
  const int64_t all = seen(count - 1);
  for (int64_t start = 0; start < all; start += kBlock) {
    widen(start, std::min<int64_t>(kBlock, all - start), keys, values);
    for (int64_t first = 0; first < count; first += tile_rows) {
      const int64_t rows = std::min(tile_rows, count - first);
      const int64_t most = std::min<int64_t>(kBlock, seen(first + rows - 1) - start);
      if (most <= 0) continue;
      int64_t seen_here[kTileRows];
      for (int64_t r = 0; r < rows; ++r) seen_here[r] = std::min(most, seen(first + r) - start);
      WithCount<kTileRows>(static_cast<int>(rows), [&](auto row_count) {
        AttendTile<decltype(row_count)::value>(packed + first * head_size, keys, values, most,
                                               head_size, width, seen_here, running.data() + first,
                                               sums + first * width);
      });
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    const V8 sum = hn::Set(f8, running[static_cast<size_t>(i)].sum);
    const float* from = sums + i * width;
    float* to = out(i);
    // A zero gets the sign +: whether a mix ran over keys that the query does not see shows in
    // nothing else.
    ForEach8(head_size, [&](auto load, auto store, int64_t d) {
      store(hn::Add(hn::Div(load(from + d), sum), hn::Zero(f8)), to + d);
    });
  }
}

// --- The verbs.

// Element 0 of the keys (or values) of one head of a page.
template <typename T>
T* PageHead(const CacheLayer& cache, int64_t page, bool value, int64_t kv_head) {
  return static_cast<T*>(cache.data) + page * cache.page_elements() +
         ((value ? cache.kv_heads : 0) + kv_head) * cache.head_elements();
}

void RopeStore(TensorView q, TensorView k, ConstTensorView v, const RopeTable& rope,
               const StepBatch& batch, const CacheLayer& cache, Workers& workers) {
  const int64_t half = cache.head_size / 2;
  const auto rotate = [&](float* head, int64_t position) {
    const float* cosines = rope.cosines.as<float>() + position * half;
    const float* sines = rope.sines.as<float>() + position * half;
    ForEach8(half, [&](auto load, auto store, int64_t i) {
      const V8 a = load(head + i), b = load(head + half + i), cosine = load(cosines + i),
               sine = load(sines + i);
      store(hn::NegMulAdd(b, sine, hn::Mul(a, cosine)), head + i);
      store(hn::MulAdd(a, sine, hn::Mul(b, cosine)), head + half + i);
    });
  };
  WithDType(cache.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t cost = batch.rows() * (q.columns() + 2 * k.columns()) / 8 * 2;
    workers.Split(batch.rows(), 1, cost, [&](int64_t first, int64_t last) {
      int piece = static_cast<int>(std::upper_bound(batch.query_starts.begin(),
                                                    batch.query_starts.end(), first) -
                                   batch.query_starts.begin()) -
                  1;
      for (int64_t r = first; r < last; ++r) {
        while (r >= batch.query_starts[piece + 1]) ++piece;
        const int64_t position = batch.positions[r];
        const int64_t page = batch.pages[batch.page_starts[piece] + position / kPageSize];
        for (int64_t c = 0; c < q.columns(); c += cache.head_size)
          rotate(q.as<float>() + r * q.columns() + c, position);
        for (int h = 0; h < cache.kv_heads; ++h) {
          const int64_t at = r * k.columns() + h * cache.head_size,
                        line = position % kPageSize * cache.head_size;
          rotate(k.as<float>() + at, position);
          T* keys = PageHead<T>(cache, page, false, h) + line;
          T* values = PageHead<T>(cache, page, true, h) + line;
          ForEach8(cache.head_size, [&](auto load, auto store, int64_t i) {
            store(load(k.as<float>() + at + i), keys + i);
            store(load(v.as<float>() + at + i), values + i);
          });
        }
      }
    });
  });
}

// Neighbouring rows of one piece and one key head.
struct PagedTask {
  int piece, kv_head;
  int64_t first, last;
};

void PagedAttention(ConstTensorView q, const StepBatch& batch, const CacheLayer& cache,
                    TensorView out, Workers& workers) {
  const int64_t columns = q.columns(), head_size = cache.head_size;
  const int64_t group = columns / head_size / cache.kv_heads;  // query heads of a key head
  const int64_t rows_at_once = std::max<int64_t>(1, kQueriesAtOnce / group);
  std::vector<PagedTask> tasks;
  int64_t cost = 0;
  for (int piece = batch.pieces() - 1; piece >= 0; --piece) {
    // The last rows see most: they come first, so that no thread is left with a long one at the
    // end.
    const int64_t first_row = batch.query_starts[piece];
    for (int64_t last = batch.query_starts[piece + 1]; last > first_row; last -= rows_at_once) {
      const int64_t first = std::max(first_row, last - rows_at_once);
      for (int h = 0; h < cache.kv_heads; ++h) tasks.push_back({piece, h, first, last});
      cost += (last - first + 2) * (batch.positions[last - 1] + 1) * columns / 8 * 2;
    }
  }
  WithDType(cache.dtype, [&](auto element) {
    using T = decltype(element);
    const auto run = [&](int64_t i, Arena& arena) {
      const PagedTask& task = tasks[static_cast<size_t>(i)];
      const int32_t* pages = batch.pages.data() + batch.page_starts[task.piece];
      const auto head = [&](int64_t query) {
        return (task.first + query / group) * columns +
               (task.kv_head * group + query % group) * head_size;
      };
      Attend(
          (task.last - task.first) * group, cache.head_size,
          [&](int64_t query) { return q.as<float>() + head(query); },
          [&](int64_t query) { return int64_t{batch.positions[task.first + query / group]} + 1; },
          [&](int64_t start, int64_t count, float* keys, float* values) {
            const auto line = [&](bool value, int64_t j) {
              const int64_t position = start + j;
              return PageHead<const T>(cache, pages[position / kPageSize], value, task.kv_head) +
                     position % kPageSize * head_size;
            };
            WidenBlock([&](int64_t j) { return line(false, j); },
                       [&](int64_t j) { return line(true, j); }, count, cache.head_size,
                       (head_size + kWidth - 1) / kWidth * kWidth, keys, values);
          },
          [&](int64_t query) { return out.as<float>() + head(query); }, arena);
    };
    workers.RunIfWorth(static_cast<int64_t>(tasks.size()), cost, run);
  });
}

// Neighbouring rows of one span and one head.
struct FullTask {
  size_t span;
  int head;
  int64_t first, last;
};

void FullAttention(ConstTensorView q, ConstTensorView k, ConstTensorView v,
                   const AttentionSpans& spans, int heads, TensorView out, Workers& workers) {
  const int64_t columns = q.columns();
  const int head_size = static_cast<int>(columns / heads);
  std::vector<FullTask> tasks;
  int64_t cost = 0;
  for (size_t span = 0; span + 1 < spans.query_starts.size(); ++span) {
    const int64_t end = spans.query_starts[span + 1];
    for (int64_t first = spans.query_starts[span]; first < end; first += kQueriesAtOnce) {
      const int64_t last = std::min(end, first + kQueriesAtOnce);
      for (int head = 0; head < heads; ++head) tasks.push_back({span, head, first, last});
      cost += (last - first + 2) * (spans.key_starts[span + 1] - spans.key_starts[span]) * columns /
              8 * 2;
    }
  }
  workers.RunIfWorth(static_cast<int64_t>(tasks.size()), cost, [&](int64_t i, Arena& arena) {
    const FullTask& task = tasks[static_cast<size_t>(i)];
    const int64_t first_key = spans.key_starts[task.span],
                  key_count = spans.key_starts[task.span + 1] - first_key;
    const int64_t head_at = int64_t{task.head} * head_size;
    Attend(
        task.last - task.first, head_size,
        [&](int64_t query) { return q.as<float>() + (task.first + query) * columns + head_at; },
        [&](int64_t) { return key_count; },
        [&](int64_t start, int64_t count, float* keys, float* values) {
          const int64_t at = (first_key + start) * columns + head_at;
          WidenBlock([&](int64_t j) { return k.as<float>() + at + j * columns; },
                     [&](int64_t j) { return v.as<float>() + at + j * columns; }, count, head_size,
                     (head_size + kWidth - 1) / kWidth * kWidth, keys, values);
        },
        [&](int64_t query) { return out.as<float>() + (task.first + query) * columns + head_at; },
        arena);
  });
}

const AttentionVerbs* FindAttentionVerbs() {
  static constexpr AttentionVerbs kVerbs = {RopeStore, PagedAttention, FullAttention};
  return &kVerbs;
}

#else
const AttentionVerbs* FindAttentionVerbs() { return nullptr; }
#endif
}  // namespace HWY_NAMESPACE
}  // namespace minicpmv
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace minicpmv {

HWY_EXPORT(FindAttentionVerbs);
const AttentionVerbs* GetAttentionVerbs() { return HWY_DYNAMIC_DISPATCH(FindAttentionVerbs)(); }

}  // namespace minicpmv
#endif
