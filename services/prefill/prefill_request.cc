#include "services/prefill/prefill_request.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/kernels/step_batch.h"
#include "services/common/links.h"
#include "services/common/model_identity.h"

namespace minicpmv::prefill {
namespace {

absl::StatusOr<LandingName> ReadLanding(const common::v1::Destination& destination,
                                        int64_t tokens) {
  if (destination.worker_id().empty()) return BadField("destination.worker_id", "is empty");
  ASSIGN_OR_RETURN(const LandingName name, LandingNameOf(destination));
  const common::v1::Landing& landing = destination.landing();
  if (landing.held_tokens() % kPageSize != 0 || landing.held_tokens() >= tokens - 1) {
    return BadField("destination.landing.held_tokens",
                    absl::StrCat("is ", landing.held_tokens(), ": a multiple of ", kPageSize,
                                 " below the ", tokens - 1, " positions to be computed"));
  }
  return name;
}

}  // namespace

absl::StatusOr<PrefillJob> ReadPrefillRequest(const v1::PrefillPromptRequest& request,
                                              const common::v1::ModelIdentity& identity,
                                              const LocalModel& model) {
  RETURN_IF_ERROR(
      CheckFingerprints(identity, request.model_fingerprint(), request.layout_fingerprint()));
  RETURN_IF_ERROR(CheckScope(request.scope()));
  ASSIGN_OR_RETURN(PromptParts parts, ReadPrompt(request.prompt(), model.spec().language.vocabulary,
                                                 model.max_positions()));
  const int64_t tokens = static_cast<int64_t>(parts.tokens.size());
  if (tokens < 2) return BadField("prompt.tokens", "has one: there is nothing to compute");
  PrefillJob job;
  ASSIGN_OR_RETURN(job.landing, ReadLanding(request.destination(), tokens));
  job.media_tokens = parts.media_tokens;
  job.request.id = request.scope().request_id();
  job.request.cache_scope = request.scope().cache_scope();
  job.request.tokens = std::move(parts.tokens);
  job.request.prompt_tokens = parts.prompt_tokens;
  job.request.spans = std::move(parts.spans);
  job.request.send_from = request.destination().landing().held_tokens();
  return job;
}

}  // namespace minicpmv::prefill
