#include <cmath>
#include <limits>

#include "tests/runtime/kernels/fixture.h"

namespace minicpmv {
namespace {

struct Sizes {
  int64_t rows, k, columns;
};

class ProductsTest : public KernelsTest {
 protected:
  // x times the transpose of w.
  static Array Multiply(Implementation implementation, int threads, const Array& x, const Array& w,
                        const Array* bias) {
    Bench bench(implementation, threads);
    const Weight weight = bench.Prepare(w);
    const Weight prepared_bias = bias != nullptr ? bench.Prepare(*bias) : Weight();
    Array out = Array::Random(DType::kF32, {x.shape()[0], w.shape()[0]}, 99);
    bench->MatMul(x.view(), weight, bias != nullptr ? &prepared_bias : nullptr, out.view());
    bench.Wait();
    return out;
  }
};

TEST_P(ProductsTest, MatchTheReference) {
  const Sizes all[] = {{1, 16, 1},     {1, 1, 1},      {3, 7, 5},      {1, 588, 48},
                       {2, 100, 33},   {4, 128, 512},  {5, 64, 31},    {6, 33, 32},
                       {7, 128, 37},   {13, 1152, 70}, {18, 40, 129},  {1, 3584, 300},
                       {130, 300, 65}, {513, 48, 40},  {40, 2500, 33}, {17, 4304, 9}};
  for (const Sizes& sizes : all) {
    SCOPED_TRACE(testing::Message()
                 << sizes.rows << " rows, K " << sizes.k << ", " << sizes.columns << " columns");
    const Array x = Array::Random(DType::kF32, {sizes.rows, sizes.k}, 1);
    const Array w = Array::Random(dtype(), {sizes.columns, sizes.k}, 2);
    const Array bias = Array::Random(dtype(), {sizes.columns}, 3);
    for (const Array* b : {static_cast<const Array*>(nullptr), &bias}) {
      ExpectNear(Multiply(implementation(), 2, x, w, b),
                 Multiply(Implementation::kReference, 1, x, w, b), 2e-6);
    }
  }
}

TEST_P(ProductsTest, OfSeveralMatricesAtOnceAreThoseOfEach) {
  Bench bench(implementation(), 2);
  for (int64_t rows : {1, 3, 20}) {
    const Array x = Array::Random(DType::kF32, {rows, 200}, 4);
    const int64_t columns[] = {70, 1, 333};
    std::vector<Array> matrices, biases, outs, alone;
    std::vector<Weight> weights, prepared;
    for (int64_t n : columns) {
      matrices.push_back(Array::Random(dtype(), {n, 200}, 5 + static_cast<uint64_t>(n)));
      biases.push_back(Array::Random(DType::kF32, {n}, 6));
      outs.emplace_back(DType::kF32, Shape{rows, n});
      alone.emplace_back(DType::kF32, Shape{rows, n});
    }
    std::vector<Product> products;
    for (size_t i = 0; i < 3; ++i) {
      weights.push_back(bench.Prepare(matrices[i]));
      prepared.push_back(bench.Prepare(biases[i]));
    }
    for (size_t i = 0; i < 3; ++i)
      products.push_back({&weights[i], i == 1 ? nullptr : &prepared[i], outs[i].view()});
    bench->MatMulMany(x.view(), products);
    for (size_t i = 0; i < 3; ++i)
      bench->MatMul(x.view(), *products[i].weight, products[i].bias, alone[i].view());
    bench.Wait();
    for (size_t i = 0; i < 3; ++i) ExpectSame(outs[i], alone[i], "product " + std::to_string(i));
  }
}

TEST_P(ProductsTest, GiveARowTheSameBitsAloneAndAmongOthers) {
  for (const Sizes& sizes : {Sizes{193, 1152, 70}, Sizes{193, 100, 33}, Sizes{600, 64, 5}}) {
    const Array x = Array::Random(DType::kF32, {sizes.rows, sizes.k}, 7);
    const Array w = Array::Random(dtype(), {sizes.columns, sizes.k}, 8);
    const Array bias = Array::Random(dtype(), {sizes.columns}, 9);
    const Array together = Multiply(implementation(), 2, x, w, &bias);
    for (int64_t count : {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 64}) {
      for (int64_t first : {int64_t{0}, int64_t{17}, sizes.rows - count}) {
        ExpectSame(Multiply(implementation(), 2, Rows(x, first, count), w, &bias),
                   Rows(together, first, count),
                   std::to_string(count) + " rows from " + std::to_string(first));
      }
    }
  }
}

TEST_P(ProductsTest, GiveTheSameBitsOnAnyNumberOfThreads) {
  for (const Sizes& sizes :
       {Sizes{1, 1152, 1000}, Sizes{3, 1000, 1003}, Sizes{40, 300, 333}, Sizes{520, 64, 40}}) {
    const Array x = Array::Random(DType::kF32, {sizes.rows, sizes.k}, 10);
    const Array w = Array::Random(dtype(), {sizes.columns, sizes.k}, 11);
    const Array one = Multiply(implementation(), 1, x, w, nullptr);
    for (int threads : {2, 3, 16}) {
      ExpectSame(Multiply(implementation(), threads, x, w, nullptr), one,
                 std::to_string(threads) + " threads");
    }
  }
}

// The order of the contract, spelt out.
TEST_P(ProductsTest, AddUpInTheOrderOfTheContract) {
  constexpr int64_t kK = 77, kColumns = 35;
  const Array w = Array::Random(dtype(), {kColumns, kK}, 13);
  const Array bias = Array::Random(DType::kF32, {kColumns}, 14);
  for (int64_t rows : {1, 9}) {
    const Array x = Array::Random(DType::kF32, {rows, kK}, 12);
    Array expected(DType::kF32, {rows, kColumns});
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t n = 0; n < kColumns; ++n) {
        float l[8] = {};
        for (int64_t k = 0; k < kK; ++k)
          l[k % 16 / 2] = std::fma(x.Get(r * kK + k), w.Get(n * kK + k), l[k % 16 / 2]);
        const float even = (l[0] + l[4]) + (l[2] + l[6]), odd = (l[1] + l[5]) + (l[3] + l[7]);
        expected.Set(r * kColumns + n, even + odd + bias.Get(n));
      }
    }
    ExpectSame(Multiply(implementation(), 2, x, w, &bias), expected,
               std::to_string(rows) + " rows");
  }
}

TEST_P(ProductsTest, KeepAnotherRowsNaNToThatRow) {
  Array x = Array::Random(DType::kF32, {9, 40}, 15);
  x.Set(4 * 40 + 3, std::numeric_limits<float>::quiet_NaN());
  const Array w = Array::Random(dtype(), {20, 40}, 16);
  const Array out = Multiply(implementation(), 2, x, w, nullptr);
  for (int64_t i = 0; i < 9 * 20; ++i) EXPECT_EQ(std::isnan(out.Get(i)), i / 20 == 4) << i;
}

TEST_P(ProductsTest, OfNoRowsDoNothing) {
  Bench bench(implementation(), 1);
  const Array w = Array::Random(dtype(), {20, 40}, 17);
  const Weight weight = bench.Prepare(w);
  bench->MatMul(ConstTensorView(nullptr, DType::kF32, {0, 40}), weight, nullptr,
                TensorView(nullptr, DType::kF32, {0, 20}));
  bench.Wait();
}

TEST_P(ProductsTest, PrepareLeavesMatricesWhereTheyAre) {
  Bench bench(implementation(), 1);
  const Array w = Array::Random(dtype(), {6, 3, 2, 2}, 18);
  const Weight weight = bench.Prepare(w);
  EXPECT_EQ(weight.view.data, w.view().data);
  EXPECT_EQ(weight.owned, nullptr);
  EXPECT_EQ(weight.view.shape, (Shape{6, 12}));
}

TEST_P(ProductsTest, PrepareWidensVectors) {
  Bench bench(implementation(), 1);
  const Array vector = Array::Random(dtype(), {77}, 19);
  const Weight weight = bench.Prepare(vector);
  EXPECT_EQ(weight.view.dtype, DType::kF32);
  EXPECT_EQ(weight.view.shape, (Shape{77}));
  for (int64_t i = 0; i < 77; ++i) EXPECT_EQ(weight.view.as<float>()[i], vector.Get(i));
}

TEST_P(ProductsTest, PrepareTransposedSwapsRowsAndColumns) {
  Bench bench(implementation(), 1);
  const Array matrix = Array::Random(dtype(), {5, 9}, 20);
  absl::StatusOr<Weight> weight = bench->PrepareTransposed(matrix.view());
  ASSERT_TRUE(weight.ok());
  ASSERT_EQ(weight->view.shape, (Shape{9, 5}));
  EXPECT_EQ(weight->view.dtype, dtype());
  Array widened(DType::kF32, {9, 5});
  bench->Cast(weight->view, widened.view());
  bench.Wait();
  for (int64_t i = 0; i < 45; ++i) EXPECT_EQ(widened.Get(i), matrix.Get(i % 5 * 9 + i / 5));
}

INSTANTIATE_TEST_SUITE_P(Kernels, ProductsTest, testing::ValuesIn(AllKernels()), CaseName);

TEST(ProductsDeathTest, RefuseShapesThatDoNotFit) {
  const Array x(DType::kF32, {2, 8}), w(DType::kF32, {4, 9});
  Array out(DType::kF32, {2, 4});
  EXPECT_DEATH(
      {
        Bench bench(Implementation::kReference, 1);
        const Weight weight = bench.Prepare(w);
        bench->MatMul(x.view(), weight, nullptr, out.view());
      },
      "\\[2, 8\\] times \\[4, 9\\]");
}

}  // namespace
}  // namespace minicpmv
