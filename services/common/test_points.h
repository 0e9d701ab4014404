#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace minicpmv {

// Places in a worker at which a test may end, freeze or delay its process, so that what happens
// there can be staged without guessing by time. Off unless the environment says otherwise:
//
//   MINICPMV_TEST_POINTS=POINT=kill:FILE,POINT=stop:FILE,POINT=hold:FILE,POINT=delay:MILLISECONDS
//
// kill and stop: whoever is first to create FILE, among all processes and threads that come to the
// point, writes "POINT PID REQUEST_ID" and a line feed into it and sends its own process SIGKILL or
// SIGSTOP; all others pass by, and so does that process after SIGCONT. hold: whoever is first to
// rename FILE, which the test has made, to FILE.held stays there with its thread until FILE.held is
// gone, a minute at the most; without a FILE all pass by. delay: every call sleeps that long in its
// thread.

// Does nothing unless a test asked for it.
void TestPoint(absl::string_view point, absl::string_view request_id);

struct PointAction {
  enum class Kind { kKill, kStop, kHold, kDelay };
  std::string point;
  Kind kind = Kind::kStop;
  std::string file;      // kill, stop, hold
  absl::Duration delay;  // delay
};

// What that variable asks for. INVALID_ARGUMENT names the entry that is none.
absl::StatusOr<std::vector<PointAction>> ParsePointActions(absl::string_view text);

}  // namespace minicpmv
