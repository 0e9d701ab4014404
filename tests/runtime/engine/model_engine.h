#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/device/cpu_device.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/memory_plan.h"
#include "runtime/kernels/cpu/cpu_kernels.h"
#include "runtime/model/decoder.h"
#include "runtime/model/family.h"

namespace minicpmv {

template <typename T>
T Must(absl::StatusOr<T> value) {
  CHECK(value.ok()) << value.status().message();
  return *std::move(value);
}

// A checkpoint's folder, opened once for many engines.
struct ModelFolder {
  explicit ModelFolder(const std::string& folder)
      : spec(Must(ReadModelSpec(folder))), checkpoint(Must(OpenSafetensors(folder))) {}

  ModelSpec spec;
  std::unique_ptr<Checkpoint> checkpoint;
};

struct ModelEngineOptions {
  int stages = 1;
  int depth = 1;
  int chunk = 512;
  int64_t pages = 512;
  int64_t headroom = 256;
  DType cache = DType::kF32;
};

// A whole engine on the CPU: one device of one thread a stage.
class ModelEngine {
 public:
  ModelEngine(const ModelFolder& model, const ModelEngineOptions& options) {
    EngineOptions engine;
    engine.pages = options.pages;
    engine.max_positions = model.spec.language.max_positions;
    engine.scheduler.depth = options.depth;
    engine.scheduler.chunk = options.chunk;
    engine.scheduler.max_rows = options.chunk + 16;
    engine.scheduler.max_logit_rows = 16;
    engine.scheduler.headroom = options.headroom;

    const DecoderBytes bytes = Must(MeasureDecoder(*model.checkpoint, model.spec));
    std::vector<std::unique_ptr<Stage>> row;
    for (const LayerRange& range : Must(BalanceLayers(bytes, options.stages))) {
      devices_.push_back(std::make_unique<CpuDevice>("cpu", 1));
      DecoderStage::Options stage;
      stage.layers = range;
      stage.pages = options.pages;
      stage.cache_dtype = options.cache;
      stage.max_rows = static_cast<int>(engine.scheduler.max_rows);
      stage.max_logit_rows = static_cast<int>(engine.scheduler.max_logit_rows);
      row.push_back(Must(DecoderStage::Load(*model.checkpoint, model.spec, *devices_.back(),
                                            Must(MakeCpuKernels(*devices_.back())), stage)));
    }
    PipelineOptions pipeline;
    pipeline.depth = options.depth;
    pipeline.max_rows = engine.scheduler.max_rows;
    pipeline.max_logit_rows = engine.scheduler.max_logit_rows;
    pipeline.hidden = model.spec.language.hidden;
    pipeline.vocabulary = model.spec.language.vocabulary;
    pipeline_ = Must(Pipeline::Create(std::move(row), *devices_.front(), pipeline));
    engine_ = std::make_unique<Engine>(engine, *pipeline_);
  }

  Engine& operator*() { return *engine_; }
  Engine* operator->() { return engine_.get(); }

 private:
  std::vector<std::unique_ptr<CpuDevice>> devices_;
  std::unique_ptr<Pipeline> pipeline_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace minicpmv
