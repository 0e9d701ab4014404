#include "runtime/device/device_list.h"

#include <string>

#include "gtest/gtest.h"

namespace minicpmv {
namespace {

TEST(DeviceListTest, ReadsThreadsOfEachDevice) {
  const absl::StatusOr<std::vector<DeviceSpec>> devices =
      ParseDevices("cpu:threads=1,cpu:threads=3");
  ASSERT_TRUE(devices.ok()) << devices.status();
  ASSERT_EQ(devices->size(), 2u);
  EXPECT_EQ((*devices)[0].threads, 1);
  EXPECT_EQ((*devices)[1].threads, 3);
}

TEST(DeviceListTest, SharesTheCoresWhereNoThreadsAreStated) {
  EXPECT_EQ(ParseDevices("cpu")->front().threads, AvailableCores());
  EXPECT_GE(ParseDevices("cpu,cpu,cpu,cpu,cpu,cpu,cpu,cpu")->front().threads, 1);
}

TEST(DeviceListTest, RefusesWhatIsNoDevice) {
  for (const char* text :
       {"", "cpu,", "gpu", "cpu:1", "cpu:threads=", "cpu:threads=0", "cpu:threads=-1",
        "cpu:threads=1:x", "cpu:threads=99999999999", "cpu:threads=1;cpu"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseDevices(text).status())) << text;
  }
  std::string many = "cpu";
  for (int i = 0; i < kMaxDevices; ++i) many += ",cpu";
  EXPECT_TRUE(absl::IsInvalidArgument(ParseDevices(many).status()));
}

TEST(DeviceListTest, SaysThatOtherDevicesAreNotInThisBuild) {
  EXPECT_TRUE(absl::IsUnimplemented(ParseDevices("cuda:0").status()));
}

}  // namespace
}  // namespace minicpmv
