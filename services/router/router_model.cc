#include "services/router/router_model.h"

#include <utility>

#include "runtime/base/status_macros.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/engine/model_fingerprint.h"
#include "services/common/model_identity.h"

namespace minicpmv::router {

absl::StatusOr<std::unique_ptr<RouterModel>> RouterModel::Load(const std::string& folder,
                                                               absl::string_view name) {
  ASSIGN_OR_RETURN(ModelSpec spec, ReadModelSpec(folder));
  ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, Tokenizer::Load(folder));
  ASSIGN_OR_RETURN(std::unique_ptr<RouterModel> model,
                   Create(name.empty() ? ModelNameOf(folder) : std::string(name), std::move(spec),
                          std::move(tokenizer)));
  const absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint = OpenSafetensors(folder);
  if (checkpoint.ok()) {
    model->fingerprint_ = ModelFingerprint(model->spec_, **checkpoint);
  } else if (!absl::IsNotFound(checkpoint.status())) {
    return checkpoint.status();
  }
  return model;
}

absl::StatusOr<std::unique_ptr<RouterModel>> RouterModel::Create(
    std::string name, ModelSpec spec, std::unique_ptr<Tokenizer> tokenizer) {
  auto model = std::unique_ptr<RouterModel>(new RouterModel);
  model->name_ = std::move(name);
  model->spec_ = std::move(spec);
  model->tokenizer_ = std::move(tokenizer);
  ASSIGN_OR_RETURN(PromptBuilder prompts, PromptBuilder::Create(model->spec_, *model->tokenizer_));
  model->prompts_ = std::make_unique<PromptBuilder>(std::move(prompts));
  return model;
}

chat::v1::Model RouterModel::ToProto() const {
  chat::v1::Model model;
  model.set_name(name_);
  model.set_family(std::string(spec_.family->name));
  model.set_context_tokens(static_cast<uint32_t>(spec_.language.max_positions));
  model.set_max_slices(static_cast<uint32_t>(spec_.preprocess.max_slices));
  model.set_slice_tokens(static_cast<uint32_t>(spec_.resampler.queries));
  return model;
}

}  // namespace minicpmv::router
