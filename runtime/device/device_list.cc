#include "runtime/device/device_list.h"

#include <sched.h>

#include <algorithm>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {
namespace {

absl::StatusOr<DeviceSpec> ParseDevice(absl::string_view entry, int share) {
  const std::vector<absl::string_view> words = absl::StrSplit(entry, ':');
  if (words[0] == "cuda") {
    return absl::UnimplementedError(
        absl::StrCat(Quoted(entry), ": this build computes on the CPU only"));
  }
  const auto wrong = [&] {
    return absl::InvalidArgumentError(absl::StrCat(
        Quoted(entry), " is no device: cpu or cpu:threads=N, N in [1, ", kMaxThreads, "]"));
  };
  if (words[0] != "cpu" || words.size() > 2) return wrong();
  DeviceSpec device = {share};
  if (words.size() == 1) return device;
  if (!absl::StartsWith(words[1], "threads=") ||
      !absl::SimpleAtoi(words[1].substr(8), &device.threads) || device.threads < 1 ||
      device.threads > kMaxThreads) {
    return wrong();
  }
  return device;
}

}  // namespace

int AvailableCores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return std::max(1, CPU_COUNT(&cores));
  return std::max(1,
                  static_cast<int>(std::thread::hardware_concurrency()));  // more than 1024 cores
}

absl::StatusOr<std::vector<DeviceSpec>> ParseDevices(absl::string_view text) {
  const std::vector<absl::string_view> entries = absl::StrSplit(text, ',');
  if (entries.size() > kMaxDevices) {
    return absl::InvalidArgumentError(
        absl::StrCat(entries.size(), " devices are more than ", kMaxDevices));
  }
  const int share = std::max(1, AvailableCores() / static_cast<int>(entries.size()));
  std::vector<DeviceSpec> devices;
  for (const absl::string_view entry : entries) {
    ASSIGN_OR_RETURN(const DeviceSpec device, ParseDevice(entry, share));
    devices.push_back(device);
  }
  return devices;
}

}  // namespace minicpmv
