#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/device/cpu_device.h"
#include "runtime/device/device_list.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/pipeline.h"
#include "runtime/model/decoder.h"
#include "runtime/model/family.h"
#include "runtime/model/prompt.h"
#include "runtime/model/vision_encoder.h"
#include "runtime/text/tokenizer.h"

namespace minicpmv {

// What a process needs of a model. Its tower comes with the first call of Vision.
struct ModelParts {
  bool text = true;     // tokenizer and prompts
  bool decoder = true;  // all layers, their cache, and the engine
  bool head = true;  // what turns the last layer's rows into logits: without it nothing is chosen
};

struct LocalModelOptions {
  std::string folder;
  ModelParts parts;
  std::optional<DType> kv_dtype;  // of cache and rows; unset: the checkpoint's
  std::vector<DeviceSpec> devices = {{AvailableCores()}};  // one stage each
  std::string split;             // "0-2,3-4": layers of each stage; "": balanced by bytes
  std::optional<int64_t> pages;  // unset: enough for `sequences` of `positions`
  int64_t sequences = 1;
  std::optional<int64_t> positions;  // unset: the model's context
  int64_t chunk = 512;               // most rows of one prompt in a step
  std::optional<int> depth;          // steps in flight; unset: one a stage
  absl::Duration step_budget = absl::InfiniteDuration();
};

// One model's folder, ready for what its parts can do: everything is in this process. Weights are
// mapped and come from the disk when a step touches them; the vision tower is looked up when the
// first picture comes.
class LocalModel {
 public:
  // NOT_FOUND, INVALID_ARGUMENT, DATA_LOSS, UNIMPLEMENTED: the folder does not hold a model that
  // this build runs. INVALID_ARGUMENT names the flag where an option does not fit the model.
  // RESOURCE_EXHAUSTED: no memory.
  static absl::StatusOr<std::unique_ptr<LocalModel>> Load(const LocalModelOptions& options);
  ~LocalModel();

  const ModelSpec& spec() const { return spec_; }
  // Of ModelParts::text.
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const PromptBuilder& prompts() const { return *prompts_; }
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  // Where rows have to lie, and where pictures are encoded.
  CpuDevice& first_device() { return *devices_.front(); }
  // Of cache and rows.
  DType row_dtype() const { return row_dtype_; }

  // Of ModelParts::decoder.
  Engine& engine() { return *engine_; }
  bool has_engine() const { return engine_ != nullptr; }
  const std::vector<LayerRange>& stages() const { return ranges_; }
  // Of one sequence: the model's context, or what the pages leave of it.
  int64_t max_positions() const { return max_positions_; }

  // See ModelFingerprint and LayoutFingerprint: 32 bytes each.
  const std::string& model_fingerprint() const { return model_fingerprint_; }
  const std::string& layout_fingerprint() const { return layout_fingerprint_; }
  // Kernels::numerics_class of all devices.
  const std::string& numerics_class() const { return numerics_class_; }

  // Loaded at the first call. One thread at a time.
  absl::StatusOr<VisionEncoder*> Vision();
  // Kernels of that encoder, and for whatever else shares its thread.
  absl::StatusOr<Kernels*> VisionKernels();

 private:
  LocalModel() = default;
  absl::Status ReadFolder(const LocalModelOptions& options);
  absl::Status MakeDevices(const LocalModelOptions& options);
  absl::Status SplitLayers(const LocalModelOptions& options);
  absl::Status BuildEngine(const LocalModelOptions& options);

  ModelSpec spec_;
  std::string model_fingerprint_, layout_fingerprint_, numerics_class_;
  DType row_dtype_ = DType::kF32;
  int64_t max_positions_ = 0;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<PromptBuilder> prompts_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::vector<std::unique_ptr<CpuDevice>> devices_;
  std::vector<LayerRange> ranges_;
  std::unique_ptr<Kernels> vision_kernels_;
  std::unique_ptr<VisionEncoder> vision_;
  std::unique_ptr<Pipeline> pipeline_;
  std::unique_ptr<Engine> engine_;  // ends first: it uses all the others
};

}  // namespace minicpmv
