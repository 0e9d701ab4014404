#include "runtime/engine/local_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/blame.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/memory_plan.h"
#include "runtime/engine/stage.h"
#include "runtime/kernels/cpu/cpu_kernels.h"

namespace minicpmv {

absl::StatusOr<std::unique_ptr<LocalModel>> LocalModel::Load(const LocalModelOptions& options) {
  auto model = std::unique_ptr<LocalModel>(new LocalModel);
  RETURN_IF_ERROR(model->ReadFolder(options));
  RETURN_IF_ERROR(model->BuildEngine(options));
  return model;
}

LocalModel::~LocalModel() = default;

absl::Status LocalModel::ReadFolder(const LocalModelOptions& options) {
  ASSIGN_OR_RETURN(spec_, ReadModelSpec(options.folder));
  row_dtype_ = options.kv_dtype.value_or(spec_.dtype);
  ASSIGN_OR_RETURN(tokenizer_, Tokenizer::Load(options.folder));
  ASSIGN_OR_RETURN(PromptBuilder prompts, PromptBuilder::Create(spec_, *tokenizer_));
  prompts_ = std::make_unique<PromptBuilder>(std::move(prompts));
  ASSIGN_OR_RETURN(checkpoint_, OpenSafetensors(options.folder));
  return absl::OkStatus();
}

absl::Status LocalModel::BuildEngine(const LocalModelOptions& options) {
  const LanguageSpec& language = spec_.language;
  const int stages = static_cast<int>(options.devices.size());
  for (int i = 0; i < stages; ++i) {
    devices_.push_back(
        std::make_unique<CpuDevice>(absl::StrCat("cpu:", i), options.devices[i].threads));
  }

  if (options.split.empty()) {
    ASSIGN_OR_RETURN(const DecoderBytes bytes, MeasureDecoder(*checkpoint_, spec_));
    absl::StatusOr<std::vector<LayerRange>> ranges = BalanceLayers(bytes, stages);
    if (!ranges.ok()) return Blame("--devices", ranges.status());
    ranges_ = *std::move(ranges);
  } else {
    absl::StatusOr<std::vector<LayerRange>> ranges =
        ParseSplit(options.split, language.layers, stages);
    if (!ranges.ok()) return Blame("--split", ranges.status());
    ranges_ = *std::move(ranges);
  }

  EngineOptions engine;
  const int64_t positions =
      std::min(options.positions.value_or(language.max_positions), language.max_positions);
  // The scheduler lets nobody in unless those that run have a page each left to grow into.
  engine.pages =
      options.pages.value_or(PagesForSequences(options.sequences, positions + kPageSize));
  max_positions_ = engine.max_positions =
      std::min(language.max_positions, engine.pages * kPageSize);
  engine.scheduler.depth = options.depth.value_or(stages);
  engine.scheduler.chunk = options.chunk;
  engine.scheduler.max_rows = std::max(options.chunk, options.sequences);
  engine.scheduler.max_logit_rows =
      std::max<int64_t>(engine.scheduler.max_logit_rows, options.sequences);
  engine.scheduler.step_budget = options.step_budget;

  std::vector<std::unique_ptr<Stage>> parts;
  for (int i = 0; i < stages; ++i) {
    DecoderStage::Options stage;
    stage.layers = ranges_[i];
    stage.pages = engine.pages;
    stage.cache_dtype = row_dtype_;
    stage.max_rows = static_cast<int>(engine.scheduler.max_rows);
    stage.max_logit_rows = static_cast<int>(engine.scheduler.max_logit_rows);
    ASSIGN_OR_RETURN(std::unique_ptr<Kernels> kernels, MakeCpuKernels(*devices_[i]));
    ASSIGN_OR_RETURN(parts.emplace_back(), DecoderStage::Load(*checkpoint_, spec_, *devices_[i],
                                                              std::move(kernels), stage));
  }

  PipelineOptions pipeline;
  pipeline.depth = engine.scheduler.depth;
  pipeline.max_rows = engine.scheduler.max_rows;
  pipeline.max_logit_rows = engine.scheduler.max_logit_rows;
  pipeline.hidden = language.hidden;
  pipeline.vocabulary = language.vocabulary;
  ASSIGN_OR_RETURN(pipeline_, Pipeline::Create(std::move(parts), first_device(), pipeline));
  engine_ = std::make_unique<Engine>(engine, *pipeline_);
  return absl::OkStatus();
}

absl::StatusOr<Kernels*> LocalModel::VisionKernels() {
  if (vision_kernels_ == nullptr) {
    ASSIGN_OR_RETURN(vision_kernels_, MakeCpuKernels(first_device()));
  }
  return vision_kernels_.get();
}

absl::StatusOr<VisionEncoder*> LocalModel::Vision() {
  if (vision_ == nullptr) {
    ASSIGN_OR_RETURN(Kernels* const kernels, VisionKernels());
    ASSIGN_OR_RETURN(vision_, VisionEncoder::Load(*checkpoint_, spec_, first_device(), *kernels));
  }
  return vision_.get();
}

}  // namespace minicpmv
