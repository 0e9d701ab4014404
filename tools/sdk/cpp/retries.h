#pragma once

#include <cstddef>
#include <optional>

#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "tools/sdk/cpp/client.h"

namespace minicpmv::sdk {

// Whether and when a call that failed is tried again, as ClientOptions say. For one thread; times
// are of one monotonic clock.
class Retries {
 public:
  struct Next {
    bool leave = false;            // that server: others should go to another one, too
    std::optional<absl::Time> at;  // of another attempt; nothing: the call ends with the failure
  };

  Retries(const ClientOptions& options, absl::Time now) : options_(options) { NoteProgress(now); }

  // Patience starts anew.
  void NoteProgress(absl::Time now);

  // What to do after a failure.
  Next After(const absl::Status& failure, absl::Time now);

 private:
  const ClientOptions& options_;
  absl::Time give_up_;
  absl::Duration pause_;
  size_t failures_ = 0;  // since the last progress
  absl::InsecureBitGen random_;
};

}  // namespace minicpmv::sdk
