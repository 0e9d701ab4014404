#include "runtime/model/position_codes.h"

#include "gtest/gtest.h"
#include "tests/runtime/model/model_fixture.h"

namespace minicpmv {
namespace {

TEST(PositionBucketsTest, AreTheOriginalsForEveryCountUpTo140) {
  const nlohmann::json buckets = ReadJson(TestData("spec/pos-vectors.json"))["bucket_by_count"]["buckets"];
  ASSERT_EQ(buckets.size(), 140u);
  for (const auto& [count, want] : buckets.items()) {
    EXPECT_EQ(PositionBuckets(std::stoi(count), 70), want.get<std::vector<int32_t>>()) << count << " patches";
  }
}

TEST(PositionBucketsTest, MakeTheOriginalsIdsOfWholeGrids) {
  const nlohmann::json vectors = ReadJson(TestData("spec/pos-vectors.json"));
  for (const nlohmann::json& sample : vectors["navit_2d_ids"]["samples"]) {
    int64_t sum = 0;
    for (const int32_t row : PositionBuckets(sample["rows"], 70)) {
      for (const int32_t column : PositionBuckets(sample["cols"], 70)) sum += 70 * row + column;
    }
    EXPECT_EQ(sum, sample["sum_ids"].get<int64_t>()) << sample["rows"] << "x" << sample["cols"];
  }
}

TEST(AxisCodesTest, AreTheOriginalsInEveryChannel) {
  const nlohmann::json vectors = ReadJson(TestData("spec/pos-vectors.json"));
  int compared = 0;
  for (const nlohmann::json& sample : vectors["sincos_2d"]["samples"]) {
    const int64_t width = sample["embed_dim"], rows = sample["rows"], columns = sample["cols"];
    const std::vector<float> codes = AxisCodes(std::max(rows, columns), width);
    const auto expect_channel = [&](int64_t row, int64_t column, int64_t channel, float want) {
      const bool first_half = channel < width / 2;
      const float got = codes[(first_half ? column : row) * width / 2 + channel % (width / 2)];
      EXPECT_NEAR(got, want, 4e-6) << row << "," << column << " channel " << channel;
      ++compared;
    };
    if (sample.contains("points")) {
      for (const nlohmann::json& point : sample["points"]) {
        for (size_t i = 0; i < sample["channel_indices"].size(); ++i) {
          expect_channel(point["row"], point["col"], sample["channel_indices"][i], point["values"][i]);
        }
      }
    } else {
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t column = 0; column < columns; ++column) {
          for (int64_t channel = 0; channel < width; ++channel) {
            expect_channel(row, column, channel, sample["values"][row][column][channel]);
          }
        }
      }
    }
  }
  EXPECT_GT(compared, 500);
}

}  // namespace
}  // namespace minicpmv
