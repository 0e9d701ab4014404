#include <cmath>
#include <cstring>
#include <limits>

#include "absl/functional/function_ref.h"
#include "tests/runtime/kernels/fixture.h"

namespace minicpmv {
namespace {

constexpr int64_t kWidths[] = {1, 7, 8, 12, 64, 128, 1001, 3584};

// Verbs over float32 rows.
class RowsTest : public KernelsTest {
 protected:
  // Runs `work` on `threads` threads over copies of the arrays, and gives back what became of them.
  using Work = absl::FunctionRef<void(Bench& bench, std::vector<Array>& arrays)>;
  static std::vector<Array> Run(Implementation implementation, int threads,
                                std::vector<Array> arrays, Work work) {
    Bench bench(implementation, threads);
    work(bench, arrays);
    bench.Wait();
    return arrays;
  }
  // Against the reference, on one thread against two and three, and each row alone against all
  // together. The arrays are [rows, width] or, where they have rank 1, weights.
  void Hold(const std::vector<Array>& arrays, Work work, double tolerance) {
    const std::vector<Array> expected = Run(Implementation::kReference, 1, arrays, work);
    const std::vector<Array> one = Run(implementation(), 1, arrays, work);
    for (size_t i = 0; i < arrays.size(); ++i) ExpectNear(one[i], expected[i], tolerance);
    for (int threads : {2, 3}) {
      const std::vector<Array> more = Run(implementation(), threads, arrays, work);
      for (size_t i = 0; i < arrays.size(); ++i)
        ExpectSame(more[i], one[i], std::to_string(threads) + " threads");
    }
    const int64_t rows = arrays[0].shape()[0];
    for (int64_t r : {int64_t{0}, rows / 2, rows - 1}) {
      std::vector<Array> row;
      for (const Array& array : arrays) row.push_back(Row(array, r));
      row = Run(implementation(), 1, row, work);
      for (size_t i = 0; i < arrays.size(); ++i)
        ExpectSame(row[i], Row(one[i], r), "row " + std::to_string(r));
    }
  }
  static Array Row(const Array& array, int64_t r) {
    if (array.shape().rank() == 1) return array;
    const int64_t width = array.shape()[1];
    Array row(DType::kF32, {1, width});
    for (int64_t c = 0; c < width; ++c) row.Set(c, array.Get(r * width + c));
    return row;
  }
  static std::vector<Array> Arrays(int64_t rows, int64_t width, int matrices, int vectors,
                                   float scale = 1) {
    std::vector<Array> arrays;
    for (int i = 0; i < matrices; ++i)
      arrays.push_back(Array::Random(DType::kF32, {rows, width}, 100 + i, scale));
    for (int i = 0; i < vectors; ++i)
      arrays.push_back(Array::Random(DType::kF32, {width}, 200 + i));
    return arrays;
  }
};

TEST_P(RowsTest, RmsNorm) {
  for (int64_t width : kWidths) {
    Hold(
        Arrays(193, width, 2, 1),
        [](Bench& bench, std::vector<Array>& a) {
          const Weight weight = bench.Prepare(a[2]);
          bench->RmsNorm(a[0].view(), weight, 1e-6f, a[1].view());
          bench->RmsNorm(a[0].view(), weight, 1e-6f, a[0].view());
          bench.Wait();
          ExpectSame(a[0], a[1], "in place");
        },
        1e-6);
  }
}

TEST_P(RowsTest, AddRmsNorm) {
  for (int64_t width : kWidths) {
    Hold(
        Arrays(193, width, 3, 1),
        [](Bench& bench, std::vector<Array>& a) {
          const Weight weight = bench.Prepare(a[3]);
          bench->AddRmsNorm(a[0].view(), a[1].view(), weight, 1e-6f, a[2].view());
          bench.Wait();
        },
        1e-6);
  }
}

TEST_P(RowsTest, LayerNorm) {
  for (int64_t width : kWidths) {
    Hold(
        Arrays(193, width, 2, 2),
        [](Bench& bench, std::vector<Array>& a) {
          const Weight weight = bench.Prepare(a[2]), bias = bench.Prepare(a[3]);
          bench->LayerNorm(a[0].view(), weight, bias, 1e-6f, a[1].view());
          bench->LayerNorm(a[0].view(), weight, bias, 1e-6f, a[0].view());
          bench.Wait();
          ExpectSame(a[0], a[1], "in place");
        },
        3e-6);
  }
}

TEST_P(RowsTest, AddLayerNorm) {
  for (int64_t width : kWidths) {
    Hold(
        Arrays(193, width, 3, 2),
        [](Bench& bench, std::vector<Array>& a) {
          const Weight weight = bench.Prepare(a[3]), bias = bench.Prepare(a[4]);
          bench->AddLayerNorm(a[0].view(), a[1].view(), weight, bias, 1e-6f, a[2].view());
          bench.Wait();
        },
        3e-6);
  }
}

TEST_P(RowsTest, Add) {
  for (int64_t width : kWidths) {
    Hold(
        Arrays(193, width, 2, 0),
        [](Bench& bench, std::vector<Array>& a) { bench->Add(a[0].view(), a[1].view()); }, 0);
  }
}

TEST_P(RowsTest, SiluMul) {
  for (float scale : {1.0f, 20.0f, 200.0f}) {
    for (int64_t width : kWidths) {
      Hold(
          Arrays(193, width, 2, 0, scale),
          [](Bench& bench, std::vector<Array>& a) { bench->SiluMul(a[0].view(), a[1].view()); },
          1e-6);
    }
  }
}

TEST_P(RowsTest, Gelu) {
  for (float scale : {0.01f, 1.0f, 5.0f, 200.0f}) {
    for (int64_t width : kWidths) {
      Hold(
          Arrays(193, width, 1, 0, scale),
          [](Bench& bench, std::vector<Array>& a) { bench->Gelu(a[0].view()); }, 1e-6);
    }
  }
}

TEST_P(RowsTest, ActivationsAreRightToTheirOwnMagnitude) {
  Array x(DType::kF32, {1, 4001});
  for (int64_t i = 0; i < 4001; ++i) x.Set(i, static_cast<float>(i - 2000) / 50);  // -40 .. 40
  Array ones(DType::kF32, {1, 4001});
  for (int64_t i = 0; i < 4001; ++i) ones.Set(i, 1);
  Array silu = x, gelu = x;
  Bench bench(implementation(), 2);
  bench->SiluMul(silu.view(), ones.view());
  bench->Gelu(gelu.view());
  bench.Wait();
  for (int64_t i = 0; i < 4001; ++i) {
    const double v = x.Get(i), u = std::sqrt(2 / std::acos(-1.0)) * (v + 0.044715 * v * v * v);
    EXPECT_NEAR(silu.Get(i), v / (1 + std::exp(-v)), std::abs(v / (1 + std::exp(-v))) * 1e-6);
    // The exponent itself carries a rounding of |2u| half units.
    const double right = v / (1 + std::exp(-2 * u));
    EXPECT_NEAR(gelu.Get(i), right, std::abs(right) * (1e-6 + std::abs(u) * 4e-7) + 1e-30) << v;
  }
}

TEST_P(RowsTest, ActivationsPassNaNAndInfinity) {
  const float infinity = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  Array gate(DType::kF32, {1, 3}), up(DType::kF32, {1, 3});
  const float values[] = {nan, infinity, -1000};
  for (int64_t i = 0; i < 3; ++i) {
    gate.Set(i, values[i]);
    up.Set(i, 1);
  }
  Array gelu = gate;
  Bench bench(implementation(), 1);
  bench->SiluMul(gate.view(), up.view());
  bench->Gelu(gelu.view());
  bench.Wait();
  for (const Array* out : {&gate, &gelu}) {
    EXPECT_TRUE(std::isnan(out->Get(0)));
    EXPECT_EQ(out->Get(1), infinity);
    EXPECT_EQ(out->Get(2), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, RowsTest, testing::ValuesIn(AllFloatKernels()), CaseName);

// Verbs that move rows and change their dtype.
using MovedRowsTest = KernelsTest;

TEST_P(MovedRowsTest, GatherRowsWidensTheRowsThatWereAskedFor) {
  for (int threads : {1, 3}) {
    Bench bench(implementation(), threads);
    for (int64_t width : kWidths) {
      const Array table = Array::Random(dtype(), {50, width}, 1);
      std::vector<int32_t> ids = {49, 0, 7, 7, 3};
      Array out(DType::kF32, {5, width});
      bench->GatherRows(table.view(), ids, out.view());
      const std::vector<int32_t> asked = ids;
      ids.assign(5, 1);  // they were copied
      bench.Wait();
      for (int64_t i = 0; i < 5 * width; ++i) {
        ASSERT_EQ(out.Get(i), table.Get(asked[static_cast<size_t>(i / width)] * width + i % width));
      }
    }
  }
}

TEST_P(MovedRowsTest, ScatterRowsPutsSpansInTheirPlaceAndTouchesNothingElse) {
  for (int threads : {1, 3}) {
    Bench bench(implementation(), threads);
    for (int64_t width : kWidths) {
      const Array first = Array::Random(dtype(), {3, width}, 1),
                  second = Array::Random(DType::kF32, {2, width}, 2);
      const Array before = Array::Random(DType::kF32, {9, width}, 3);
      Array out = before;
      const std::vector<StepBatch::Span> spans = {{1, first.view()}, {7, second.view()}};
      bench->ScatterRows(spans, out.view());
      bench.Wait();
      for (int64_t i = 0; i < 9 * width; ++i) {
        const int64_t r = i / width;
        const float expected = r >= 1 && r < 4 ? first.Get(i - width)
                               : r >= 7        ? second.Get(i - 7 * width)
                                               : before.Get(i);
        ASSERT_EQ(out.Get(i), expected);
      }
    }
  }
}

TEST_P(MovedRowsTest, CastRoundsToNearestEven) {
  constexpr int64_t kSize = 70001;
  Array from(DType::kF32, {kSize});
  std::mt19937_64 draw(5);
  for (int64_t i = 0; i < kSize; ++i) {  // all magnitudes, ties, subnormals, infinities and NaN
    const uint32_t bits = static_cast<uint32_t>(draw()) & (i % 3 == 0   ? 0xfffff000u
                                                           : i % 3 == 1 ? 0xffff8000u
                                                                        : ~0u);
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    from.Set(i, i == 0   ? std::numeric_limits<float>::quiet_NaN()
                : i == 1 ? std::numeric_limits<float>::infinity()
                         : value);
  }
  for (int threads : {1, 3}) {
    Bench bench(implementation(), threads);
    Array to(dtype(), {kSize}), back(DType::kF32, {kSize});
    bench->Cast(from.view(), to.view());
    bench->Cast(to.view(), back.view());
    bench.Wait();
    Array expected(dtype(), {kSize});
    for (int64_t i = 0; i < kSize; ++i) expected.Set(i, from.Get(i));
    ExpectSame(to, expected, "narrowed");
    for (int64_t i = 0; i < kSize; ++i) {
      if (std::isnan(from.Get(i))) continue;
      ASSERT_EQ(back.Get(i), expected.Get(i));
    }
    EXPECT_TRUE(std::isnan(back.Get(0)));
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, MovedRowsTest, testing::ValuesIn(AllKernels()), CaseName);

}  // namespace
}  // namespace minicpmv
