#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/runtime/kernels/fixture.h"

namespace minicpmv {
namespace {

struct Heads {
  int heads, kv_heads, size;
};

// All geometries that the models and their miniatures have, and a few worse ones.
constexpr Heads kHeads[] = {{4, 4, 12}, {2, 1, 16}, {7, 1, 24},  {14, 2, 32},
                            {4, 2, 64}, {3, 3, 72}, {7, 1, 128}, {6, 2, 128}};

// What one sequence asks of its attention: q, k and v of each position, before the rotary code.
struct Conversation {
  Conversation(int64_t length, const Heads& heads, uint64_t seed)
      : q(Array::Random(DType::kF32, {length, heads.heads * heads.size}, seed, 3)),
        k(Array::Random(DType::kF32, {length, heads.kv_heads * heads.size}, seed + 1, 3)),
        v(Array::Random(DType::kF32, {length, heads.kv_heads * heads.size}, seed + 2)),
        out(DType::kF32, {length, heads.heads * heads.size}) {}
  int64_t length() const { return q.shape()[0]; }

  Array q, k, v, out;
};

// A cache of one layer and the verbs that use it.
class Attender {
 public:
  // `shuffle`: which pages a sequence gets; 0 for rising ones.
  Attender(Implementation implementation, int threads, DType dtype, const Heads& heads,
           int64_t pages, uint64_t shuffle)
      : heads_(heads),
        bench_(implementation, threads),
        bytes_(
            Array::Random(dtype, {pages, 2, int64_t{heads.kv_heads} * kPageSize, heads.size}, 77)),
        cosines_(DType::kF32, {kPositions, heads.size / 2}),
        sines_(DType::kF32, {kPositions, heads.size / 2}),
        free_(static_cast<size_t>(pages)) {
    for (int64_t i = 0; i < kPositions * (heads.size / 2); ++i) {
      const float angle = static_cast<float>(i / (heads.size / 2)) *
                          std::pow(10000.0f, -static_cast<float>(i % (heads.size / 2)) /
                                                 static_cast<float>(heads.size / 2));
      cosines_.Set(i, std::cos(angle));
      sines_.Set(i, std::sin(angle));
    }
    std::iota(free_.begin(), free_.end(), 0);
    if (shuffle != 0) {
      std::mt19937_64 draw(shuffle);
      std::shuffle(free_.begin(), free_.end(), draw);
    }
  }

  // Feeds all conversations, at most `chunk` rows of each in one step, all of them mixed.
  void Feed(std::vector<Conversation>& conversations, int64_t chunk) {
    std::vector<std::vector<int32_t>> pages(conversations.size());
    std::vector<int64_t> done(conversations.size());
    while (true) {
      StepBatch batch;
      batch.query_starts = {0};
      batch.page_starts = {0};
      std::vector<std::pair<size_t, int64_t>> rows;  // conversation and position
      for (size_t c = 0; c < conversations.size(); ++c) {
        const int64_t count = std::min(chunk, conversations[c].length() - done[c]);
        if (count == 0) continue;
        for (int64_t i = 0; i < count; ++i) {
          const int64_t position = done[c] + i;
          if (position / kPageSize == static_cast<int64_t>(pages[c].size())) {
            pages[c].push_back(free_.back());
            free_.pop_back();
          }
          rows.emplace_back(c, position);
          batch.tokens.push_back(0);
          batch.positions.push_back(static_cast<int32_t>(position));
        }
        done[c] += count;
        batch.pages.insert(batch.pages.end(), pages[c].begin(), pages[c].end());
        batch.query_starts.push_back(static_cast<int32_t>(rows.size()));
        batch.page_starts.push_back(static_cast<int32_t>(batch.pages.size()));
      }
      if (rows.empty()) return;
      const int64_t count = static_cast<int64_t>(rows.size());
      const int64_t width = heads_.heads * heads_.size, kv_width = heads_.kv_heads * heads_.size;
      Array q(DType::kF32, {count, width}), k(DType::kF32, {count, kv_width}),
          v(DType::kF32, {count, kv_width});
      Array out(DType::kF32, {count, width});
      for (int64_t r = 0; r < count; ++r) {
        const Conversation& from = conversations[rows[r].first];
        for (int64_t i = 0; i < width; ++i)
          q.Set(r * width + i, from.q.Get(rows[r].second * width + i));
        for (int64_t i = 0; i < kv_width; ++i) {
          k.Set(r * kv_width + i, from.k.Get(rows[r].second * kv_width + i));
          v.Set(r * kv_width + i, from.v.Get(rows[r].second * kv_width + i));
        }
      }
      bench_->RopeStore(q.view(), k.view(), v.view(), {cosines_.view(), sines_.view()}, batch,
                        cache());
      bench_->PagedAttention(q.view(), batch, cache(), out.view());
      bench_.Wait();
      for (int64_t r = 0; r < count; ++r) {
        Array& to = conversations[rows[r].first].out;
        for (int64_t i = 0; i < width; ++i)
          to.Set(rows[r].second * width + i, out.Get(r * width + i));
      }
    }
  }

  CacheLayer cache() {
    return {bytes_.view().data, bytes_.view().dtype, bytes_.shape()[0], heads_.kv_heads,
            heads_.size};
  }
  Bench& bench() { return bench_; }
  Array& bytes() { return bytes_; }

 private:
  static constexpr int64_t kPositions = 700;

  Heads heads_;
  Bench bench_;
  Array bytes_;
  Array cosines_, sines_;
  std::vector<int32_t> free_;
};

class PagedAttentionTest : public KernelsTest {
 protected:
  std::vector<Conversation> Feed(Implementation implementation, int threads, const Heads& heads,
                                 std::vector<Conversation> conversations, int64_t chunk,
                                 uint64_t shuffle = 0) {
    int64_t pages = 0;
    for (const Conversation& conversation : conversations)
      pages += conversation.length() / kPageSize + 1;
    Attender attender(implementation, threads, dtype(), heads, pages, shuffle);
    attender.Feed(conversations, chunk);
    return conversations;
  }
};

TEST_P(PagedAttentionTest, MatchesTheReference) {
  for (const Heads& heads : kHeads) {
    for (int64_t chunk : {1, 19, 512}) {
      SCOPED_TRACE(testing::Message()
                   << heads.heads << " heads of " << heads.size << " in chunks of " << chunk);
      const std::vector<Conversation> asked = {{85, heads, 1}, {1, heads, 2}, {64, heads, 3}};
      const std::vector<Conversation> actual = Feed(implementation(), 2, heads, asked, chunk);
      const std::vector<Conversation> expected =
          Feed(Implementation::kReference, 1, heads, asked, chunk);
      // A 16-bit cache: a rotated key that lies on the edge of two values may be stored as either.
      const double tolerance = dtype() == DType::kF32 ? 3e-6 : dtype() == DType::kF16 ? 1e-3 : 8e-3;
      for (size_t c = 0; c < asked.size(); ++c)
        ExpectNear(actual[c].out, expected[c].out, tolerance);
    }
  }
}

TEST_P(PagedAttentionTest, GivesTheSameBitsInAnyChunks) {
  for (const Heads& heads : {Heads{4, 4, 12}, Heads{7, 1, 128}, Heads{4, 2, 64}}) {
    const std::vector<Conversation> asked = {{600, heads, 4}};
    const std::vector<Conversation> whole = Feed(implementation(), 2, heads, asked, 600);
    for (int64_t chunk : {1, 16, 17, 512}) {
      ExpectSame(Feed(implementation(), 2, heads, asked, chunk)[0].out, whole[0].out,
                 "chunks of " + std::to_string(chunk));
    }
  }
}

TEST_P(PagedAttentionTest, GivesTheSameBitsWhateverPagesASequenceHas) {
  for (const Heads& heads : kHeads) {
    const std::vector<Conversation> asked = {{85, heads, 5}, {33, heads, 6}};
    const std::vector<Conversation> rising = Feed(implementation(), 1, heads, asked, 30);
    for (uint64_t shuffle : {1, 2}) {
      const std::vector<Conversation> shuffled =
          Feed(implementation(), 1, heads, asked, 30, shuffle);
      for (size_t c = 0; c < asked.size(); ++c)
        ExpectSame(shuffled[c].out, rising[c].out, "shuffled");
    }
  }
}

TEST_P(PagedAttentionTest, GivesTheSameBitsAloneAndAmongOthers) {
  for (const Heads& heads : kHeads) {
    const std::vector<Conversation> asked = {
        {70, heads, 7}, {1, heads, 8}, {40, heads, 9}, {129, heads, 10}};
    const std::vector<Conversation> together = Feed(implementation(), 2, heads, asked, 23);
    for (size_t c = 0; c < asked.size(); ++c) {
      ExpectSame(Feed(implementation(), 2, heads, {asked[c]}, 23)[0].out, together[c].out, "alone");
    }
  }
}

TEST_P(PagedAttentionTest, GivesTheSameBitsOnAnyNumberOfThreads) {
  for (const Heads& heads : kHeads) {
    const std::vector<Conversation> asked = {{130, heads, 11}, {50, heads, 12}};
    const std::vector<Conversation> one = Feed(implementation(), 1, heads, asked, 100);
    for (int threads : {2, 3}) {
      const std::vector<Conversation> more = Feed(implementation(), threads, heads, asked, 100);
      for (size_t c = 0; c < asked.size(); ++c)
        ExpectSame(more[c].out, one[c].out, std::to_string(threads) + " threads");
    }
  }
}

TEST_P(PagedAttentionTest, StoresWhereThePagesSayAndNowhereElse) {
  const Heads heads = {4, 2, 16};
  std::vector<Conversation> conversations = {{20, heads, 13}};
  Attender attender(implementation(), 2, dtype(), heads, 5, 3);
  const Array before = attender.bytes();
  attender.Feed(conversations, 7);
  int64_t changed = 0;
  for (int64_t i = 0; i < before.shape().elements(); ++i)
    changed += before.Get(i) != attender.bytes().Get(i);
  // 20 positions, keys and values, 2 heads of 16; the odd value may be what was there before.
  EXPECT_LE(changed, 20 * 2 * 2 * 16);
  EXPECT_GT(changed, 20 * 2 * 2 * 16 * 9 / 10);
}

TEST_P(PagedAttentionTest, CopyPagesCopiesWholePages) {
  const Heads heads = {2, 2, 24};
  Attender attender(implementation(), 2, dtype(), heads, 6, 0);
  const Array before = attender.bytes();
  const std::vector<PageCopy> copies = {{4, 1}, {4, 0}, {2, 3}};
  attender.bench()->CopyPages(copies, attender.cache());
  attender.bench().Wait();
  const int64_t page = attender.cache().page_elements();
  const int64_t from[] = {4, 4, 2, 2, 4, 5};
  for (int64_t i = 0; i < 6 * page; ++i)
    ASSERT_EQ(attender.bytes().Get(i), before.Get(from[i / page] * page + i % page));
}

INSTANTIATE_TEST_SUITE_P(Kernels, PagedAttentionTest, testing::ValuesIn(AllKernels()), CaseName);

class FullAttentionTest : public KernelsTest {
 protected:
  // Spans of queries and keys, by their sizes.
  static Array Attend(Implementation implementation, int threads, int heads, const Array& q,
                      const Array& k, const Array& v, const std::vector<int32_t>& query_starts,
                      const std::vector<int32_t>& key_starts) {
    Bench bench(implementation, threads);
    Array out(DType::kF32, q.shape());
    const AttentionSpans spans = {query_starts, key_starts};
    bench->FullAttention(q.view(), k.view(), v.view(), spans, heads, out.view());
    bench.Wait();
    return out;
  }
};

TEST_P(FullAttentionTest, MatchesTheReferenceAndTheContract) {
  const std::vector<int32_t> queries = {0, 1, 1, 70, 280}, keys = {3, 4, 70, 135, 200};
  for (const Heads& heads : kHeads) {
    SCOPED_TRACE(testing::Message() << heads.heads << " heads of " << heads.size);
    const int64_t width = heads.heads * heads.size;
    const Array q = Array::Random(DType::kF32, {280, width}, 1, 3),
                k = Array::Random(DType::kF32, {210, width}, 2, 3);
    const Array v = Array::Random(DType::kF32, {210, width}, 3);
    const Array one = Attend(implementation(), 1, heads.heads, q, k, v, queries, keys);
    ExpectNear(one, Attend(Implementation::kReference, 1, heads.heads, q, k, v, queries, keys),
               3e-6);
    for (int threads : {2, 3}) {
      ExpectSame(Attend(implementation(), threads, heads.heads, q, k, v, queries, keys), one,
                 std::to_string(threads) + " threads");
    }
    for (size_t span = 0; span + 1 < queries.size(); ++span) {
      const int32_t count = queries[span + 1] - queries[span],
                    key_count = keys[span + 1] - keys[span];
      if (count == 0) continue;
      ExpectSame(Attend(implementation(), 2, heads.heads, Rows(q, queries[span], count),
                        Rows(k, keys[span], key_count), Rows(v, keys[span], key_count), {0, count},
                        {0, key_count}),
                 Rows(one, queries[span], count), "span alone");
      const int32_t last = queries[span + 1] - 1;
      ExpectSame(Attend(implementation(), 2, heads.heads, Rows(q, last, 1), k, v, {0, 1},
                        {keys[span], keys[span + 1]}),
                 Rows(one, last, 1), "query alone");
    }
  }
}

TEST_P(FullAttentionTest, StandsLargeScores) {
  const Array q = Array::Random(DType::kF32, {3, 16}, 4, 200),
              k = Array::Random(DType::kF32, {200, 16}, 5, 200);
  const Array v = Array::Random(DType::kF32, {200, 16}, 6);
  const Array actual = Attend(implementation(), 1, 1, q, k, v, {0, 3}, {0, 200});
  ExpectNear(actual, Attend(Implementation::kReference, 1, 1, q, k, v, {0, 3}, {0, 200}), 2e-2);
}

INSTANTIATE_TEST_SUITE_P(Kernels, FullAttentionTest, testing::ValuesIn(AllFloatKernels()),
                         CaseName);

// Two classes of instructions, one numerics class.
class InstructionsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!IsPossible(Implementation::kCpuAvx512)) GTEST_SKIP() << "this CPU has no AVX-512";
  }
};

TEST_F(InstructionsTest, MakeNoDifferenceToProducts) {
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (int64_t rows : {1, 4, 5, 100}) {
      const Array x = Array::Random(DType::kF32, {rows, 301}, 1),
                  w = Array::Random(dtype, {99, 301}, 2);
      std::vector<Array> outs;
      for (Implementation implementation : {Implementation::kCpuAvx2, Implementation::kCpuAvx512}) {
        Bench bench(implementation, 2);
        const Weight weight = bench.Prepare(w);
        outs.emplace_back(DType::kF32, Shape{rows, 99});
        bench->MatMul(x.view(), weight, nullptr, outs.back().view());
        bench.Wait();
      }
      ExpectSame(outs[1], outs[0], "AVX-512");
    }
  }
}

TEST_F(InstructionsTest, MakeNoDifferenceToRows) {
  const Array x = Array::Random(DType::kF32, {5, 1001}, 1, 3),
              w = Array::Random(DType::kF32, {1001}, 2);
  std::vector<Array> outs;
  for (Implementation implementation : {Implementation::kCpuAvx2, Implementation::kCpuAvx512}) {
    Bench bench(implementation, 2);
    const Weight weight = bench.Prepare(w);
    Array rms = x, layer = x, gelu = x;
    bench->RmsNorm(x.view(), weight, 1e-6f, rms.view());
    bench->LayerNorm(x.view(), weight, weight, 1e-6f, layer.view());
    bench->Gelu(gelu.view());
    bench->SiluMul(gelu.view(), rms.view());
    bench->Add(gelu.view(), layer.view());
    bench.Wait();
    outs.push_back(gelu);
  }
  ExpectSame(outs[1], outs[0], "AVX-512");
}

TEST_F(InstructionsTest, MakeNoDifferenceToAttention) {
  for (const Heads& heads : kHeads) {
    std::vector<Array> outs;
    for (Implementation implementation : {Implementation::kCpuAvx2, Implementation::kCpuAvx512}) {
      Attender attender(implementation, 2, DType::kBF16, heads, 20, 1);
      std::vector<Conversation> conversations = {{150, heads, 1}};
      attender.Feed(conversations, 40);
      outs.push_back(conversations[0].out);
    }
    ExpectSame(outs[1], outs[0], "AVX-512");
  }
}

}  // namespace
}  // namespace minicpmv
