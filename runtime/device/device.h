#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace minicpmv {

// Bytes that live on one device, aligned to 64. Given back when destroyed; the device outlives its buffers.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() = 0;  // On a GPU: a device address.
  virtual size_t size() const = 0;
};

// A queue of work that one device carries out in order. Queuing returns at once; what is queued looks at its operands
// when its turn comes, so they live until then. Any thread may queue.
class Stream {
 public:
  // Waits for everything queued.
  virtual ~Stream() = default;
  // Calls `work` on the stream's own thread once all that was queued before has ended. It may queue on any stream, and
  // must not wait for this one.
  virtual void Call(absl::AnyInvocable<void()> work) = 0;
  // Queued: streams that share the device may go first. Where nobody says so they wait until all
  // that is queued has ended.
  virtual void Yield() {}
  // Blocks until everything queued before has ended. A failure of the device shows here, and stays.
  virtual absl::Status Wait() = 0;
  // That failure as far as it has shown, without waiting. A device that cannot fail keeps this one.
  virtual absl::Status status() const { return absl::OkStatus(); }
};

// Where bytes live and work is done. Thread-safe.
class Device {
 public:
  virtual ~Device() = default;
  // "cpu:0" or "cuda:1": for logs, errors and metrics.
  virtual const std::string& name() const = 0;
  // RESOURCE_EXHAUSTED when the device has no such room. The bytes are zero; pages of the host that nobody touches cost
  // nothing.
  virtual absl::StatusOr<std::unique_ptr<Buffer>> Allocate(size_t bytes) = 0;
  // The device outlives its streams.
  virtual std::unique_ptr<Stream> NewStream() = 0;
};

}  // namespace minicpmv
