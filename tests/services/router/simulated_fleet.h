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

// What every simulated decode worker chooses: a function of the history alone, as a real model's
// greedy choice is.
uint32_t FakeToken(uint64_t history, uint64_t seed, const std::vector<int32_t>& stops,
                   uint32_t vocabulary);
uint64_t FakeHistory(uint64_t history, uint32_t token);

// Workers that live in a simulation: processes that hold pages, media and landings, take their
// time, refuse, preempt, freeze, die and come back. They hold the router to the protos: what it
// asks has to make sense. All in virtual time, all from one seed.
class SimulatedFleet final : public Workers {
 public:
  struct Options {
    int of_each_role = 2;
    int of_all_roles = 1;  // processes that play every role
    int64_t pages = 400;   // of each process
    // Chances.
    double refuses = 0.01, preempts = 0.002 /* each step */, fails = 0.003, forgets_media = 0.01;
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
  void Freeze(absl::Duration time);
  void Drain();
  void BreakStream();
  // Every process runs again, for ever.
  void Calm();

  // Calls that processes still work for, and pages that they hold.
  int64_t open_calls() const;
  int64_t held_pages() const;
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
  class EncodeCall;
  class PrefillCall;
  class DecodeCall;
  class OpenCall;
  struct ByAge;
  using Calls = std::set<std::shared_ptr<Call>, ByAge>;

  Process* Find(const WorkerName& worker);
  Process* Find(const common::v1::Destination& destination);
  Process& Any();
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
  int64_t opened_ = 0;
  bool is_calm_ = false;
};

}  // namespace minicpmv::router
