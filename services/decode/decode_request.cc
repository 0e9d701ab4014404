#include "services/decode/decode_request.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/blame.h"
#include "runtime/base/status_macros.h"
#include "services/common/model_identity.h"
#include "services/common/read_prompt.h"
#include "services/common/status_proto.h"

namespace minicpmv::decode {
namespace {

constexpr int kMaxStopTokens = 1024;

SamplingSettings SettingsOf(const v1::Sampling& sampling, const v1::Limits& limits,
                            const GenerationDefaults& defaults) {
  SamplingSettings settings;
  settings.greedy = sampling.greedy();
  settings.temperature = sampling.has_temperature() ? sampling.temperature() : defaults.temperature;
  settings.top_p = sampling.has_top_p() ? sampling.top_p() : defaults.top_p;
  settings.repetition_penalty = sampling.has_repetition_penalty() ? sampling.repetition_penalty()
                                                                  : defaults.repetition_penalty;
  settings.seed = sampling.seed();
  settings.min_new_tokens = limits.min_new_tokens();
  settings.max_new_tokens = limits.max_new_tokens();
  return settings;
}

// The field of the message that the engine's own words are about: they begin with its name.
std::string FieldOf(absl::string_view words) {
  for (const absl::string_view name : {"max_new_tokens", "min_new_tokens"}) {
    if (absl::StartsWith(words, name)) return absl::StrCat("limits.", name);
  }
  return absl::StrCat("sampling.", words.substr(0, words.find(' ')));
}

absl::StatusOr<SamplingSettings> ReadSettings(const v1::DecodeSequenceRequest& request,
                                              const LocalModel& model) {
  const v1::Sampling& sampling = request.sampling();
  const v1::Limits& limits = request.limits();
  const int64_t vocabulary = model.spec().language.vocabulary;
  SamplingSettings settings = SettingsOf(sampling, limits, model.spec().generation);
  settings.top_k = model.spec().generation.top_k;
  if (sampling.has_top_k()) {
    if (sampling.top_k() > kMaxTopK) {
      return BadField("sampling.top_k",
                      absl::StrCat("is ", sampling.top_k(), ": at most ", kMaxTopK));
    }
    settings.top_k = static_cast<int>(sampling.top_k());
  }
  if (limits.stop_tokens_size() > kMaxStopTokens) {
    return BadField("limits.stop_tokens", absl::StrCat("has ", limits.stop_tokens_size(),
                                                       " ids: at most ", kMaxStopTokens));
  }
  for (const uint32_t id : limits.stop_tokens()) {
    if (id >= vocabulary) {
      return BadField("limits.stop_tokens",
                      absl::StrCat("holds ", id, ": ids lie in [0, ", vocabulary, ")"));
    }
    settings.stop_ids.push_back(static_cast<int32_t>(id));
  }
  if (settings.stop_ids.empty()) settings.stop_ids = model.prompts().stop_ids();
  const absl::Status valid = Validate(settings, vocabulary);
  if (!valid.ok()) return WithField(valid, FieldOf(valid.message()));
  return settings;
}

}  // namespace

absl::StatusOr<SequenceRequest> ReadDecodeRequest(const v1::DecodeSequenceRequest& request,
                                                  const common::v1::ModelIdentity& identity,
                                                  const LocalModel& model) {
  RETURN_IF_ERROR(
      CheckFingerprints(identity, request.model_fingerprint(), request.layout_fingerprint()));
  RETURN_IF_ERROR(CheckScope(request.scope()));
  ASSIGN_OR_RETURN(PromptParts parts, ReadPrompt(request.prompt(), model.spec().language.vocabulary,
                                                 model.max_positions()));
  SequenceRequest sequence;
  ASSIGN_OR_RETURN(sequence.sampling, ReadSettings(request, model));
  const int64_t generated = static_cast<int64_t>(parts.tokens.size()) - parts.prompt_tokens;
  if (sequence.sampling.max_new_tokens <= generated) {
    return BadField("limits.max_new_tokens",
                    absl::StrCat("is ", sequence.sampling.max_new_tokens, " where ", generated,
                                 " were generated already"));
  }
  sequence.id = request.scope().request_id();
  sequence.cache_scope = request.scope().cache_scope();
  sequence.tokens = std::move(parts.tokens);
  sequence.prompt_tokens = parts.prompt_tokens;
  sequence.spans = std::move(parts.spans);
  sequence.choice = request.sampling().choice();
  return sequence;
}

}  // namespace minicpmv::decode
