#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "services/common/worker.h"

namespace minicpmv {

// Has the worker take `call`, which answers on `stream`, and calls start(std::unique_ptr<Worker::
// Call>); where the worker takes nothing new the stream ends with its status. `Call` has a
// thread-safe End(status), which is called when the worker hands the call back; that cannot come
// any more once the call has let go of what it was started with.
template <typename Call, typename Stream, typename Start>
void StartCall(Worker& worker, common::v1::Role role, const grpc::CallbackServerContext& context,
               Stream& stream, Call& call, const Start& start) {
  absl::StatusOr<std::unique_ptr<Worker::Call>> admitted =
      worker.Admit(role, context.client_metadata(), [&call] { call.End(Worker::HandedBack()); });
  if (!admitted.ok()) {
    stream.End(admitted.status());
  } else {
    start(*std::move(admitted));
  }
}

}  // namespace minicpmv
