#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "runtime/base/tracing.h"
#include "services/router/fleet.h"
#include "services/router/loop.h"
#include "services/router/task.h"
#include "services/router/workers.h"

namespace minicpmv::router {

// What all calls of one flow share: where they are counted, who waits for them, and what they are
// part of.
struct CallGround {
  Loop& loop;
  Fleet& fleet;
  Signal& signal;
  const TracedWork& work;
};

// What went wrong, and at whom.
struct CallFailure {
  absl::Status status;
  WorkerName worker;
  common::v1::Role role = common::v1::ROLE_UNSPECIFIED;
};

// A call at a worker as a flow waits for it: what has come and was not taken yet, and how it ended.
// A worker that is lost, or does not answer at all, ends it with UNAVAILABLE. Destroyed, it is
// given up.
template <typename Response>
class WorkerCall {
 public:
  // Counted from now on; begun later or never.
  WorkerCall(const CallGround& ground, const WorkerName& worker, common::v1::Role role,
             const Work& work)
      : ground_(ground),
        worker_(worker),
        role_(role),
        opened_(ground.fleet.Open(worker, role, work, [this] {
          End(absl::UnavailableError(absl::StrCat("worker ", worker_.id, " is lost")));
        })) {}
  ~WorkerCall() {
    if (name_ != nullptr && !end_.has_value()) TellTrace("");
  }
  WorkerCall(const WorkerCall&) = delete;
  WorkerCall& operator=(const WorkerCall&) = delete;

  // open(work, told) opens it. `name`, of a picture's span, lives for ever.
  template <typename OpenIt>
  void Begin(const char* name, OpenIt open) {
    began_ = ground_.loop.Now();
    name_ = name;
    work_ = {ground_.work.request_id, ChildOf(ground_.work.context)};
    if (end_.has_value()) return;
    first_answer_ =
        ground_.loop.At(ground_.loop.Now() + ground_.fleet.Patience(worker_) + kSlack, [this] {
          End(absl::UnavailableError(absl::StrCat("worker ", worker_.id, " does not answer")));
        });
    call_ = open(work_.context, [this](std::variant<Response, absl::Status> told) {
      first_answer_ = nullptr;
      if (end_.has_value()) return;
      if (const auto* const end = std::get_if<absl::Status>(&told)) return End(*end);
      messages_.push_back(std::get<Response>(std::move(told)));
      ground_.signal.Notify();
    });
  }
  // An answer may take as long as the worker is alive.
  void WaitPatiently() { first_answer_ = nullptr; }

  const WorkerName& worker() const { return worker_; }
  common::v1::Role role() const { return role_; }
  absl::Time began() const { return began_; }

  bool has_message() const { return !messages_.empty(); }
  Response Take() {
    Response message = std::move(messages_.front());
    messages_.pop_front();
    return message;
  }
  // Nothing more comes; messages may still wait to be taken.
  bool has_ended() const { return end_.has_value(); }
  bool has_news() const { return has_message() || has_ended(); }
  // Of a call that has ended before it should have.
  CallFailure Failure() const {
    if (end_->ok()) return Failure(absl::UnavailableError("a worker ended its call too early"));
    return Failure(*end_);
  }
  CallFailure Failure(absl::Status status) const { return {std::move(status), worker_, role_}; }

 private:
  static constexpr absl::Duration kSlack = absl::Seconds(5);

  void End(const absl::Status& status) {
    first_answer_ = nullptr;
    if (end_.has_value()) return;
    end_ = status;
    if (name_ != nullptr) TellTrace(status.ok() ? "" : absl::StatusCodeToString(status.code()));
    ground_.signal.Notify();
  }
  void TellTrace(absl::string_view error) const {
    TraceCall(name_, began_, kNow, work_, {{"worker", worker_.id}, {"error", error}});
  }

  const CallGround ground_;
  const WorkerName worker_;
  const common::v1::Role role_;
  absl::Time began_;
  const char* name_ = nullptr;  // it has not begun
  TracedWork work_;
  std::deque<Response> messages_;
  std::optional<absl::Status> end_;
  std::unique_ptr<Fleet::Opened> opened_;
  std::unique_ptr<Loop::Alarm> first_answer_;
  std::unique_ptr<Open> call_;  // ends first: it tells this
};

}  // namespace minicpmv::router
