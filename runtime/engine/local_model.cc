#include "runtime/engine/local_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/blame.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/memory_plan.h"
#include "runtime/engine/model_fingerprint.h"
#include "runtime/engine/stage.h"
#include "runtime/kernels/cpu/cpu_kernels.h"

namespace minicpmv {

absl::StatusOr<std::unique_ptr<LocalModel>> LocalModel::Load(const LocalModelOptions& options) {
  auto model = std::unique_ptr<LocalModel>(new LocalModel);
  RETURN_IF_ERROR(model->ReadFolder(options));
  RETURN_IF_ERROR(model->MakeDevices(options));
  if (options.parts.decoder) {
    RETURN_IF_ERROR(model->SplitLayers(options));
    RETURN_IF_ERROR(model->BuildEngine(options));
  }
  return model;
}

LocalModel::~LocalModel() = default;

absl::Status LocalModel::ReadFolder(const LocalModelOptions& options) {
  ASSIGN_OR_RETURN(spec_, ReadModelSpec(options.folder));
  row_dtype_ = options.kv_dtype.value_or(spec_.dtype);
  if (options.parts.text) {
    ASSIGN_OR_RETURN(tokenizer_, Tokenizer::Load(options.folder));
    ASSIGN_OR_RETURN(PromptBuilder prompts, PromptBuilder::Create(spec_, *tokenizer_));
    prompts_ = std::make_unique<PromptBuilder>(std::move(prompts));
  }
  ASSIGN_OR_RETURN(checkpoint_, OpenSafetensors(options.folder));
  model_fingerprint_ = ModelFingerprint(spec_, *checkpoint_);
  layout_fingerprint_ = LayoutFingerprint(spec_, row_dtype_);
  return absl::OkStatus();
}

absl::Status LocalModel::MakeDevices(const LocalModelOptions& options) {
  for (size_t i = 0; i < options.devices.size(); ++i) {
    devices_.push_back(
        std::make_unique<CpuDevice>(absl::StrCat("cpu:", i), options.devices[i].threads));
  }
  if (!options.parts.decoder) {
    ASSIGN_OR_RETURN(Kernels* const kernels, VisionKernels());
    numerics_class_ = std::string(kernels->numerics_class());
  }
  return absl::OkStatus();
}

absl::Status LocalModel::SplitLayers(const LocalModelOptions& options) {
  const int stages = static_cast<int>(options.devices.size());
  if (options.split.empty()) {
    ASSIGN_OR_RETURN(DecoderBytes bytes, MeasureDecoder(*checkpoint_, spec_));
    if (!options.parts.head) bytes.head = 0;
    absl::StatusOr<std::vector<LayerRange>> ranges = BalanceLayers(bytes, stages);
    if (!ranges.ok()) return Blame("--devices", ranges.status());
    ranges_ = *std::move(ranges);
  } else {
    absl::StatusOr<std::vector<LayerRange>> ranges =
        ParseSplit(options.split, spec_.language.layers, stages);
    if (!ranges.ok()) return Blame("--split", ranges.status());
    ranges_ = *std::move(ranges);
  }
  return absl::OkStatus();
}

absl::Status LocalModel::BuildEngine(const LocalModelOptions& options) {
  const LanguageSpec& language = spec_.language;
  EngineOptions engine;
  const int64_t positions =
      std::min(options.positions.value_or(language.max_positions), language.max_positions);
  // The scheduler lets nobody in unless those that run have a page each left to grow into.
  engine.pages =
      options.pages.value_or(PagesForSequences(options.sequences, positions + kPageSize));
  max_positions_ = engine.max_positions =
      std::min(language.max_positions, engine.pages * kPageSize);
  engine.scheduler.depth = options.depth.value_or(static_cast<int>(devices_.size()));
  engine.scheduler.chunk = options.chunk;
  engine.scheduler.max_rows = std::max(options.chunk, options.sequences);
  engine.scheduler.max_logit_rows =
      std::max<int64_t>(engine.scheduler.max_logit_rows, options.sequences);
  engine.scheduler.step_budget = options.step_budget;
  engine.model_fingerprint = model_fingerprint_;
  engine.cache_layout = layout_fingerprint_;

  std::vector<std::unique_ptr<Stage>> parts;
  for (size_t i = 0; i < devices_.size(); ++i) {
    DecoderStage::Options stage;
    stage.layers = ranges_[i];
    stage.pages = engine.pages;
    stage.cache_dtype = row_dtype_;
    stage.max_rows = static_cast<int>(engine.scheduler.max_rows);
    stage.max_logit_rows =
        options.parts.head ? static_cast<int>(engine.scheduler.max_logit_rows) : 0;
    ASSIGN_OR_RETURN(std::unique_ptr<Kernels> kernels, MakeCpuKernels(*devices_[i]));
    numerics_class_ = std::string(kernels->numerics_class());
    ASSIGN_OR_RETURN(parts.emplace_back(), DecoderStage::Load(*checkpoint_, spec_, *devices_[i],
                                                              std::move(kernels), stage));
  }

  PipelineOptions pipeline;
  pipeline.depth = engine.scheduler.depth;
  pipeline.max_rows = engine.scheduler.max_rows;
  pipeline.max_logit_rows = engine.scheduler.max_logit_rows;
  pipeline.hidden = language.hidden;
  pipeline.vocabulary = language.vocabulary;
  engine.numerics_class = numerics_class_;
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
