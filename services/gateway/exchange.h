#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "services/gateway/body.h"
#include "services/gateway/http_error.h"

namespace minicpmv::gateway {

// Where an answer goes: one request's connection. The loop's.
class Answering {
 public:
  virtual ~Answering() = default;
  // The whole answer: either this, or one of the next two.
  virtual void SendJson(std::string body) = 0;
  virtual void SendError(const HttpError& error) = 0;
  // The answer in pieces: events until EndEvents.
  virtual void BeginEvents() = 0;
  virtual void SendEvents(std::string events) = 0;
  virtual void EndEvents() = 0;
  // Whether something that was sent has not left yet.
  virtual bool is_sending() const = 0;
};

// What answers one request. The loop's. Whoever made it keeps it until it has answered, and, after
// Cancel, until it lets go of it itself.
class Exchange {
 public:
  virtual ~Exchange() = default;
  // Once.
  virtual void Start(std::shared_ptr<Body> body) = 0;
  // All that was sent has left.
  virtual void OnSent() {}
  // Nobody waits for the answer any more. The Answering is not called any more.
  virtual void Cancel() = 0;
  // Answers soon, with that error if need be.
  virtual void GiveUp(const absl::Status& why) = 0;
};

}  // namespace minicpmv::gateway
