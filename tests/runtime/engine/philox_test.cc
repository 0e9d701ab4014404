#include "runtime/engine/philox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace minicpmv {
namespace {

using ::testing::ElementsAre;

// The known answers that the authors of Philox publish.
TEST(PhiloxTest, GivesTheKnownAnswers) {
  EXPECT_THAT(Philox({0, 0, 0, 0}, {0, 0}),
              ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  EXPECT_THAT(Philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(CoinTest, LiesInTheUnitIntervalAndIsFair) {
  double sum = 0;
  for (int64_t position = 0; position < 10000; ++position) {
    const double coin = TossCoin(1, 0, position, CoinPurpose::kToken);
    ASSERT_GE(coin, 0);
    ASSERT_LT(coin, 1);
    sum += coin;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.01);
}

TEST(CoinTest, DependsOnSeedChoiceAndPosition) {
  const std::set<double> coins = {TossCoin(1, 0, 5, CoinPurpose::kToken),
                                  TossCoin(2, 0, 5, CoinPurpose::kToken),
                                  TossCoin(uint64_t{1} << 32 | 1, 0, 5, CoinPurpose::kToken),
                                  TossCoin(1, 1, 5, CoinPurpose::kToken),
                                  TossCoin(1, 0, 6, CoinPurpose::kToken),
                                  TossCoin(1, 0, int64_t{1} << 32 | 5, CoinPurpose::kToken)};
  EXPECT_EQ(coins.size(), 6u);
}

}  // namespace
}  // namespace minicpmv
