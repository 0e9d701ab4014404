#include "tools/minicpmv/bench.h"

#include <algorithm>
#include <future>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/base/clock.h"
#include "runtime/base/status_macros.h"
#include "runtime/device/thread_pool.h"
#include "runtime/kernels/cpu/bounds.h"
#include "tools/minicpmv/bench_progress.h"
#include "tools/minicpmv/model_folder.h"
#include "tools/minicpmv/output.h"
#include "tools/minicpmv/proc_status.h"
#include "tools/minicpmv/work_count.h"

namespace minicpmv {
namespace {

constexpr int kTries = 2;  // the best one counts
constexpr uint64_t kReadBytes = uint64_t{4}
                                << 30;  // more makes a measurement of the memory no better
constexpr uint64_t kSeed = 1;

absl::Time Now() { return Clock::Monotonic().Now(); }

// When the tokens of one sequence came.
class Watch final : public SequenceObserver {
 public:
  explicit Watch(BenchProgress& progress) : progress_(progress) {}

  void OnToken(int32_t) override {
    times_.push_back(Now());
    progress_.AddDone(1);
  }
  void OnEnd(absl::StatusOr<Finish> finish) override { ended_.set_value(std::move(finish)); }

  absl::StatusOr<Finish> Wait() { return ended_.get_future().get(); }
  // After Wait.
  const std::vector<absl::Time>& times() const { return times_; }

 private:
  BenchProgress& progress_;
  std::vector<absl::Time> times_;
  std::promise<absl::StatusOr<Finish>> ended_;
};

SequenceRequest RandomRequest(const ModelSpec& spec, int64_t prompt, int64_t new_tokens,
                              std::mt19937& random) {
  SequenceRequest request;
  request.id = "bench";
  std::uniform_int_distribution<int32_t> id(0, static_cast<int32_t>(spec.language.vocabulary) - 1);
  for (int64_t i = 0; i < prompt; ++i) request.tokens.push_back(id(random));
  request.prompt_tokens = prompt;
  request.sampling.greedy = true;  // and no stop ids: it goes on to the end
  request.sampling.max_new_tokens = new_tokens;
  return request;
}

// While prompts are computed, sequences whose own prompt is done decode beside them; they need
// tokens for that, too.
int64_t NewTokens(const BenchOptions& options, int64_t batch) {
  const int64_t chunks = (options.prompt + options.model.chunk - 1) / options.model.chunk;
  return 1 + options.tokens + (batch - 1) * (chunks + 1);
}

struct Rate {
  double per_second = 0;
  double bound_share = 0;
};

// Tokens a second in the time in which all sequences of the batch decode.
absl::StatusOr<Rate> MeasureDecode(LocalModel& model, const BenchOptions& options, int64_t batch,
                                   double read_bytes, BenchProgress& progress) {
  std::mt19937 random(kSeed);
  const int64_t new_tokens = NewTokens(options, batch);
  progress.Begin(absl::StrCat("decode, ", batch), batch * new_tokens, "tokens");
  std::vector<std::unique_ptr<Watch>> watches;
  absl::Status status;
  for (int64_t i = 0; i < batch && status.ok(); ++i) {
    auto watch = std::make_unique<Watch>(progress);
    status = model.engine()
                 .Submit(RandomRequest(model.spec(), options.prompt, new_tokens, random), *watch)
                 .status();
    if (status.ok()) watches.push_back(std::move(watch));
  }
  for (const std::unique_ptr<Watch>& watch : watches) {
    if (const absl::Status ended = watch->Wait().status(); status.ok()) status = ended;
  }
  RETURN_IF_ERROR(status);

  absl::Time all_decode = absl::InfinitePast(), one_is_done = absl::InfiniteFuture();
  for (const std::unique_ptr<Watch>& watch : watches) {
    all_decode = std::max(all_decode, watch->times().front());
    one_is_done = std::min(one_is_done, watch->times().back());
  }
  int64_t tokens = 0;
  double positions = 0;  // that the step of each token read
  for (const std::unique_ptr<Watch>& watch : watches) {
    for (size_t i = 0; i < watch->times().size(); ++i) {
      if (watch->times()[i] <= all_decode || watch->times()[i] > one_is_done) continue;
      ++tokens;
      positions += static_cast<double>(options.prompt) + static_cast<double>(i);
    }
  }
  if (tokens == 0) return Rate();
  const double steps = static_cast<double>(tokens) / static_cast<double>(batch);
  ASSIGN_OR_RETURN(const double step_bytes, DecodeStepBytes(model.checkpoint(), model.spec(),
                                                            model.row_dtype(), positions / steps));
  Rate rate;
  rate.per_second = static_cast<double>(tokens) / absl::ToDoubleSeconds(one_is_done - all_decode);
  rate.bound_share = rate.per_second / (static_cast<double>(batch) * read_bytes / step_bytes);
  return rate;
}

absl::StatusOr<Rate> MeasurePrefill(LocalModel& model, const BenchOptions& options,
                                    double fma_flops, BenchProgress& progress) {
  std::mt19937 random(kSeed);
  progress.Begin("prefill", kTries, "prompts");
  Rate best;
  for (int i = 0; i < kTries; ++i) {
    Watch watch(progress);
    RETURN_IF_ERROR(model.engine()
                        .Submit(RandomRequest(model.spec(), options.prompt, 1, random), watch)
                        .status());
    ASSIGN_OR_RETURN(const Finish finish, watch.Wait());
    const double seconds = absl::ToDoubleSeconds(finish.prompt_done - finish.started);
    best.per_second = std::max(best.per_second, static_cast<double>(options.prompt) / seconds);
  }
  const double flops = PrefillFlops(model.spec(), static_cast<double>(options.prompt));
  best.bound_share = best.per_second / static_cast<double>(options.prompt) * flops / fma_flops;
  return best;
}

// Sub-images of the largest size that slicing makes as a rule.
absl::StatusOr<Rate> MeasureVision(LocalModel& model, const BenchOptions& options, double fma_flops,
                                   BenchProgress& progress) {
  const ModelSpec& spec = model.spec();
  const int patch = static_cast<int>(spec.vision.patch_size);
  const int side = std::max(1, spec.preprocess.scale_resolution / patch);
  std::mt19937 random(kSeed);
  Image image = {side * patch, side * patch, {}};
  image.rgb.resize(static_cast<size_t>(image.width) * image.height * 3);
  for (uint8_t& value : image.rgb) value = static_cast<uint8_t>(random());
  const std::vector<Image> sub_images(static_cast<size_t>(options.slices), image);

  const Shape shape = {options.slices * spec.resampler.queries, spec.language.hidden};
  ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> rows,
                   model.first_device().Allocate(static_cast<size_t>(shape.elements()) *
                                                 SizeOf(model.row_dtype())));
  ASSIGN_OR_RETURN(VisionEncoder* const vision, model.Vision());
  progress.Begin("vision", kTries * options.slices, "sub-images");
  Rate best;
  for (int i = 0; i < kTries; ++i) {
    const absl::Time start = Now();
    int64_t told = 0;
    RETURN_IF_ERROR(vision->Encode(sub_images, TensorView(rows->data(), model.row_dtype(), shape),
                                   [&](int64_t done) {
                                     progress.AddDone(done - told);
                                     told = done;
                                   }));
    best.per_second =
        std::max(best.per_second, options.slices / absl::ToDoubleSeconds(Now() - start));
  }
  best.bound_share = best.per_second * VisionFlops(spec, double{1} * side * side) / fma_flops;
  return best;
}

struct Figures {
  double read_bytes_per_second = 0, fma_flops_per_second = 0, load_seconds = 0;
  std::vector<std::pair<int64_t, Rate>> decode;  // by batch
  Rate prefill, vision;
  int64_t rss_anon_bytes = 0;
};

absl::StatusOr<Figures> Measure(const BenchOptions& options,
                                const LocalModelOptions& model_options) {
  Figures figures;
  BenchProgress progress(4 + static_cast<int>(options.batch.size()));
  progress.Begin("load", 1, "models");
  const absl::Time start = Now();
  ASSIGN_OR_RETURN(const std::unique_ptr<LocalModel> model, LocalModel::Load(model_options));
  RETURN_IF_ERROR(model->Vision().status());
  figures.load_seconds = absl::ToDoubleSeconds(Now() - start);

  int threads = 0;
  for (const DeviceSpec& device : model_options.devices) threads += device.threads;
  {
    progress.Begin("bounds", 2, "figures");
    ThreadPool pool(threads);
    figures.read_bytes_per_second =
        MeasureReadBytes(pool, LongestMappedRun(model->checkpoint(), kReadBytes));
    progress.AddDone(1);
    figures.fma_flops_per_second = MeasureFmaFlops(pool);
  }
  ASSIGN_OR_RETURN(figures.prefill,
                   MeasurePrefill(*model, options, figures.fma_flops_per_second, progress));
  for (const int64_t batch : options.batch) {
    ASSIGN_OR_RETURN(const Rate rate, MeasureDecode(*model, options, batch,
                                                    figures.read_bytes_per_second, progress));
    figures.decode.emplace_back(batch, rate);
  }
  ASSIGN_OR_RETURN(figures.vision,
                   MeasureVision(*model, options, figures.fma_flops_per_second, progress));
  ASSIGN_OR_RETURN(figures.rss_anon_bytes, RssAnonBytes());
  return figures;
}

std::string JsonOf(const Figures& figures) {
  using Json = nlohmann::ordered_json;
  Json decode = Json::array();
  for (const auto& [batch, rate] : figures.decode) {
    decode.push_back({{"batch", batch},
                      {"tokens_per_second", rate.per_second},
                      {"bound_share", rate.bound_share}});
  }
  const Json object = {
      {"bounds",
       {{"read_bytes_per_second", figures.read_bytes_per_second},
        {"fma_flops_per_second", figures.fma_flops_per_second}}},
      {"load_seconds", figures.load_seconds},
      {"decode", std::move(decode)},
      {"prefill",
       {{"tokens_per_second", figures.prefill.per_second},
        {"bound_share", figures.prefill.bound_share}}},
      {"vision",
       {{"slices_per_second", figures.vision.per_second},
        {"bound_share", figures.vision.bound_share}}},
      {"rss_anon_bytes", figures.rss_anon_bytes},
  };
  return absl::StrCat(object.dump(), "\n");
}

std::string TableOf(const Figures& figures) {
  std::string table =
      absl::StrFormat("bounds           %8.2f GB/s read, %.1f GFLOP/s multiply-add\n",
                      figures.read_bytes_per_second / 1e9, figures.fma_flops_per_second / 1e9);
  absl::StrAppendFormat(&table, "load             %8.3f s\n", figures.load_seconds);
  for (const auto& [batch, rate] : figures.decode) {
    absl::StrAppendFormat(&table, "decode, %4d     %8.2f tokens/s     %5.1f %% of the bound\n",
                          batch, rate.per_second, 100 * rate.bound_share);
  }
  absl::StrAppendFormat(&table, "prefill          %8.2f tokens/s     %5.1f %% of the bound\n",
                        figures.prefill.per_second, 100 * figures.prefill.bound_share);
  absl::StrAppendFormat(&table, "vision           %8.3f sub-images/s %5.1f %% of the bound\n",
                        figures.vision.per_second, 100 * figures.vision.bound_share);
  absl::StrAppendFormat(&table, "anonymous memory %8.1f MB\n",
                        static_cast<double>(figures.rss_anon_bytes) / 1e6);
  return table;
}

}  // namespace

absl::Status Bench(const BenchOptions& options) {
  LocalModelOptions model_options = options.model;
  ASSIGN_OR_RETURN(model_options.folder, ResolveModelFolder(options.model.folder));
  ASSIGN_OR_RETURN(const ModelSpec spec, ReadModelSpec(model_options.folder));
  model_options.sequences = *std::max_element(options.batch.begin(), options.batch.end());
  model_options.positions = options.prompt + NewTokens(options, model_options.sequences);
  if (*model_options.positions > spec.language.max_positions) {
    return absl::InvalidArgumentError(
        absl::StrCat("--prompt: ", options.prompt, " tokens and --tokens=", options.tokens,
                     " need a context of ", *model_options.positions, ", and the model's is ",
                     spec.language.max_positions));
  }
  ASSIGN_OR_RETURN(const Figures figures, Measure(options, model_options));
  return WriteOutput(options.json ? JsonOf(figures) : TableOf(figures));
}

}  // namespace minicpmv
