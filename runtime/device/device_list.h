#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace minicpmv {

// One device of this process: a CPU with that many threads.
struct DeviceSpec {
  int threads = 1;
};

// Cores that this process may run on.
int AvailableCores();

inline constexpr int kMaxDevices = 64;
inline constexpr int kMaxThreads = 1024;

// "cpu:threads=1,cpu:threads=1": one device an entry, one stage a device. An entry without threads
// gets its share of the cores. INVALID_ARGUMENT names the entry; UNIMPLEMENTED: a kind of device
// that this build has not.
absl::StatusOr<std::vector<DeviceSpec>> ParseDevices(absl::string_view text);

}  // namespace minicpmv
