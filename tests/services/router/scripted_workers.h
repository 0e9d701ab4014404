#pragma once

#include <list>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "services/router/loop.h"
#include "services/router/workers.h"

namespace minicpmv::router {

// Workers that do nothing but remember what they were asked; the test answers.
class ScriptedWorkers final : public Workers {
 public:
  template <typename Request, typename Response>
  struct Call {
    WorkerName worker;
    Request request;
    Told<Response> told;
    bool is_open = true;
  };
  template <typename Request, typename Response>
  using Calls = std::list<Call<Request, Response>>;

  std::unique_ptr<Open> PutMedia(const WorkerName& worker, const TraceContext& /*work*/,
                                 const common::v1::RequestScope& /*scope*/,
                                 const std::string& digest,
                                 std::shared_ptr<const std::string> /*bytes*/,
                                 Told<common::v1::MediaInfo> told) override {
    return Add(puts, worker, digest, std::move(told));
  }
  std::unique_ptr<Open> EncodeMedia(const WorkerName& worker, const TraceContext& /*work*/,
                                    vision::v1::EncodeMediaRequest request,
                                    Told<vision::v1::EncodeMediaResponse> told) override {
    return Add(encodes, worker, std::move(request), std::move(told));
  }
  std::unique_ptr<Open> PrefillPrompt(const WorkerName& worker, const TraceContext& /*work*/,
                                      prefill::v1::PrefillPromptRequest request,
                                      Told<prefill::v1::PrefillPromptResponse> told) override {
    return Add(prefills, worker, std::move(request), std::move(told));
  }
  std::unique_ptr<Open> DecodeSequence(const WorkerName& worker, const TraceContext& /*work*/,
                                       decode::v1::DecodeSequenceRequest request,
                                       Told<decode::v1::DecodeSequenceResponse> told) override {
    return Add(decodes, worker, std::move(request), std::move(told));
  }

  int open() const { return Count(puts) + Count(encodes) + Count(prefills) + Count(decodes); }

  Calls<std::string, common::v1::MediaInfo> puts;  // the request is the digest
  Calls<vision::v1::EncodeMediaRequest, vision::v1::EncodeMediaResponse> encodes;
  Calls<prefill::v1::PrefillPromptRequest, prefill::v1::PrefillPromptResponse> prefills;
  Calls<decode::v1::DecodeSequenceRequest, decode::v1::DecodeSequenceResponse> decodes;

 private:
  class Ending final : public Open {
   public:
    explicit Ending(bool& is_open) : is_open_(is_open) {}
    ~Ending() override { is_open_ = false; }

   private:
    bool& is_open_;
  };
  template <typename Request, typename Response>
  static std::unique_ptr<Open> Add(Calls<Request, Response>& calls, const WorkerName& worker,
                                   Request request, Told<Response> told) {
    calls.push_back({worker, std::move(request), std::move(told)});
    return std::make_unique<Ending>(calls.back().is_open);
  }
  template <typename All>
  static int Count(const All& calls) {
    int open = 0;
    for (const auto& call : calls) open += call.is_open;
    return open;
  }
};

}  // namespace minicpmv::router
