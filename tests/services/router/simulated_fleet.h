#pragma once

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "minicpmv/control/v1/fleet_service.pb.h"
#include "services/router/fleet.h"
#include "services/router/virtual_loop.h"
#include "services/router/workers.h"

namespace minicpmv::router {

// Workers that live in a simulation: processes with the engine's scheduler and pages and the
// landings of links, over a fake model. They take their time, refuse, preempt, freeze, die and come
// back. They hold the router to the protos: what it asks has to make sense. All in virtual time,
// all from one seed.
class SimulatedFleet final : public Workers {
 public:
  struct Options {
    int of_each_role = 2;
    int of_all_roles = 1;  // processes that play every role
    int64_t pages = 400;   // of each process
    // Chances.
    double refuses = 0.01, fails = 0.003, forgets_media = 0.01;
    std::vector<int32_t> stops;
    uint32_t vocabulary = 0;
    std::string model_fingerprint;
    std::function<common::v1::MediaInfo(const std::string& digest)> media;
  };

  SimulatedFleet(Options options, VirtualLoop& loop, uint64_t seed);
  ~SimulatedFleet() override;

  // They dial the router's fleet, which has to outlive them, or to be left first.
  void Join(Fleet& fleet);
  void Leave();

  // Something happens to a random process.
  void Kill();
  void BreakDevice();
  void Freeze(absl::Duration time);
  void Drain();
  void BreakStream();
  // Where most is decoded, sequences of another router, older than all, grow and take pages from
  // the others.
  void Press();
  // Every process runs again, for ever.
  void Calm();

  // Calls that processes still work for.
  int64_t open_calls() const;
  // What is held in the processes; pages that only their prefix indexes keep are not.
  struct Held {
    int64_t pages = 0, sequences = 0, landings = 0;
  };
  Held held() const;
  // What has come to pass.
  struct Seen {
    int64_t landed = 0, lost = 0;  // parcels of pages
    int64_t adopted = 0, recalled = 0, preempted = 0;
    int64_t held_tokens = 0;  // that prefix indexes gave
  };
  const Seen& seen() const { return seen_; }
  // What the router has asked that makes no sense.
  const std::vector<std::string>& complaints() const { return complaints_; }

  std::unique_ptr<Open> PutMedia(const WorkerName& worker, const TraceContext& work,
                                 const common::v1::RequestScope& scope, const std::string& digest,
                                 std::shared_ptr<const std::string> bytes,
                                 Told<common::v1::MediaInfo> told) override;
  std::unique_ptr<Open> EncodeMedia(const WorkerName& worker, const TraceContext& work,
                                    vision::v1::EncodeMediaRequest request,
                                    Told<vision::v1::EncodeMediaResponse> told) override;
  std::unique_ptr<Open> PrefillPrompt(const WorkerName& worker, const TraceContext& work,
                                      prefill::v1::PrefillPromptRequest request,
                                      Told<prefill::v1::PrefillPromptResponse> told) override;
  std::unique_ptr<Open> DecodeSequence(const WorkerName& worker, const TraceContext& work,
                                       decode::v1::DecodeSequenceRequest request,
                                       Told<decode::v1::DecodeSequenceResponse> told) override;

 private:
  class Process;
  class Call;
  template <typename Response>
  class CallOf;
  class PutCall;
  class EncodeCall;
  class PrefillCall;
  class DecodeCall;
  class OpenCall;
  struct ByAge;
  using Calls = std::set<std::shared_ptr<Call>, ByAge>;

  Process* Find(const WorkerName& worker);
  Process& Any();
  void Kill(Process& process);
  std::unique_ptr<Open> Begin(const WorkerName& worker, std::shared_ptr<Call> call);
  void After(absl::Duration delay, std::function<void()> call);
  absl::Duration Between(double least_ms, double most_ms);
  bool Happens(double chance);
  void Complain(std::string words);

  const Options options_;
  VirtualLoop& loop_;
  std::mt19937_64 random_;
  Fleet* fleet_ = nullptr;
  std::vector<std::unique_ptr<Process>> processes_;
  std::map<uint64_t, std::unique_ptr<Loop::Alarm>> alarms_;
  uint64_t last_alarm_ = 0;
  std::vector<std::string> complaints_;
  Seen seen_;
  int64_t opened_ = 0;
  bool is_calm_ = false;
};

}  // namespace minicpmv::router
