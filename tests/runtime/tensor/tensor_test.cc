#include "runtime/tensor/tensor.h"

#include <gtest/gtest.h>

namespace minicpmv {
namespace {

TEST(ShapeTest, CountsItsElements) {
  EXPECT_EQ(Shape().elements(), 1);
  EXPECT_EQ((Shape{2, 3, 4}).elements(), 24);
  EXPECT_EQ((Shape{5, 0}).elements(), 0);
  EXPECT_EQ((Shape{151666, 3584, 3}).elements(), int64_t{151666} * 3584 * 3);
}

TEST(ShapeTest, ComparesRankAndSizes) {
  EXPECT_EQ((Shape{2, 3}), (Shape{2, 3}));
  EXPECT_FALSE((Shape{2, 3}) == (Shape{3, 2}));
  EXPECT_FALSE((Shape{2}) == (Shape{2, 0}));  // a size of 0 is an axis, too
  Shape appended;
  appended.Append(2);
  appended.Append(3);
  EXPECT_EQ(appended, (Shape{2, 3}));
}

TEST(ShapeTest, ReadsLikeAList) {
  EXPECT_EQ((Shape{3584, 512}).ToString(), "[3584, 512]");
  EXPECT_EQ((Shape{7}).ToString(), "[7]");
  EXPECT_EQ(Shape().ToString(), "[]");
}

TEST(ShapeDeathTest, HasFourAxesAtMost) {
  EXPECT_DEATH((Shape{1, 2, 3, 4, 5}), "CHECK failed");
  Shape full{1, 2, 3, 4};
  EXPECT_DEATH(full.Append(5), "CHECK failed");
}

TEST(TensorViewTest, TakesTheFirstAxisForRowsAndAllOthersForColumns) {
  const ConstTensorView view(nullptr, DType::kBF16, {4, 3, 2});
  EXPECT_EQ(view.rows(), 4);
  EXPECT_EQ(view.columns(), 6);
  EXPECT_EQ(view.bytes(), 48u);
  const ConstTensorView scalar(nullptr, DType::kF32, {});
  EXPECT_EQ(scalar.rows(), 1);
  EXPECT_EQ(scalar.columns(), 1);
  const ConstTensorView empty(nullptr, DType::kF32, {0, 5});
  EXPECT_EQ(empty.columns(), 0);
  EXPECT_EQ(empty.bytes(), 0u);
}

TEST(TensorViewTest, LooksAtSomeRowsWithoutCopying) {
  float values[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  const TensorView whole(values, DType::kF32, {3, 2, 2});
  const TensorView part = whole.Rows(1, 2);
  EXPECT_EQ(part.shape, (Shape{2, 2, 2}));
  EXPECT_EQ(part.data, values + 4);
  part.as<float>()[0] = -1;
  EXPECT_EQ(values[4], -1);
  EXPECT_EQ(whole.Rows(3, 0).shape, (Shape{0, 2, 2}));
  EXPECT_EQ(part.Rows(1, 1).data, values + 8);
}

TEST(TensorViewTest, IsReadAsAConstantOne) {
  uint16_t values[2] = {1, 2};
  const TensorView view(values, DType::kF16, {2});
  const ConstTensorView constant = view;
  EXPECT_EQ(constant.as<uint16_t>(), values);
  static_assert(std::is_same_v<decltype(constant.as<uint16_t>()), const uint16_t*>);
  static_assert(std::is_same_v<decltype(view.as<uint16_t>()), uint16_t*>);
  static_assert(!std::is_convertible_v<ConstTensorView, TensorView>);
}

TEST(TensorViewDeathTest, RefusesRowsThatAreNotThere) {
  const ConstTensorView view(nullptr, DType::kU8, {3, 2});
  EXPECT_DEATH(view.Rows(2, 2), "2\\+2 of 3");
  EXPECT_DEATH(view.Rows(-1, 1), "CHECK failed");
  EXPECT_DEATH(view.Rows(1, -1), "CHECK failed");
  EXPECT_DEATH(view.Rows(1, INT64_MAX), "CHECK failed");
}

TEST(TensorViewDeathTest, RefusesAnElementOfAnotherSize) {
  const uint16_t value = 0;
  const ConstTensorView view(&value, DType::kBF16, {1});
  EXPECT_DEATH(view.as<float>(), "\\(4 against 2\\)");
}

}  // namespace
}  // namespace minicpmv
