// bench_kernels [--threads=N] [--only=WORD] [--processor-time]: what share of the machine's own
// bounds the kernels reach, on the shapes of MiniCPM-V 2.6. Few rows are held against the bandwidth
// at which the same weights can be read, many rows against the multiply-adds of a loop over
// registers.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/kernels/cpu/bounds.h"
#include "runtime/kernels/cpu/cpu_kernels.h"

namespace minicpmv {
namespace {

struct MatMulShape {
  const char* name;
  int64_t k, columns;
};

constexpr MatMulShape kLanguageShapes[] = {{"q, o", 3584, 3584},
                                           {"k, v", 3584, 512},
                                           {"gate, up", 3584, 18944},
                                           {"down", 18944, 3584},
                                           {"lm_head", 3584, 151666}};
constexpr MatMulShape kVisionShapes[] = {
    {"vision q, k, v, o", 1152, 1152}, {"vision up", 1152, 4304}, {"vision down", 4304, 1152}};

class KernelsBench {
 public:
  KernelsBench(int threads, std::string only, bool processor_time)
      : device_("cpu:0", threads), only_(std::move(only)), processor_time_(processor_time) {
    absl::StatusOr<std::unique_ptr<Kernels>> kernels = MakeCpuKernels(device_);
    CHECK(kernels.ok()) << kernels.status();
    kernels_ = *std::move(kernels);
    weights_ = Make(size_t{151666} * 3584 * 2);
    uint16_t* bits = static_cast<uint16_t*>(weights_->data());
    for (size_t i = 0; i < weights_->size() / 2; ++i)
      bits[i] = FloatToBF16(static_cast<float>(i * 2654435761u % 1021) / 1021 - 0.5f);
    MeasureBounds();
  }

  void Run() {
    for (const MatMulShape& shape : kLanguageShapes) {
      for (int64_t rows : {1, 2, 4, 8, 16, 32}) MatMul(shape, rows, true);
      if (shape.columns < 100000) MatMul(shape, 512, false);
    }
    for (const MatMulShape& shape : kVisionShapes) MatMul(shape, 1024, false);
    for (int64_t rows : {1, 512}) Paged(rows, 0);
    Paged(1, 4096);
    Full(1024);
    Rows();
    Queue();
  }

 private:
  std::unique_ptr<Buffer> Make(size_t bytes) {
    absl::StatusOr<std::unique_ptr<Buffer>> buffer = device_.Allocate(bytes);
    CHECK(buffer.ok()) << buffer.status();
    return *std::move(buffer);
  }
  TensorView MakeFloats(int64_t rows, int64_t columns) {
    buffers_.push_back(Make(static_cast<size_t>(rows * columns) * 4));
    const TensorView view(buffers_.back()->data(), DType::kF32, {rows, columns});
    for (int64_t i = 0; i < rows * columns; ++i)
      view.as<float>()[i] = static_cast<float>(i % 1013) / 1013 - 0.5f;
    return view;
  }

  void MeasureBounds() {
    flops_ = MeasureFmaFlops(device_.pool());
    bytes_ = MeasureReadBytes(device_.pool(),
                              {static_cast<const uint8_t*>(weights_->data()), weights_->size()});
    std::printf("bounds: %.1f GFLOP/s, %.2f GB/s on %d threads\n", flops_ / 1e9, bytes_ / 1e9,
                device_.pool().threads());
  }

  // Of the wall; or of the processors, by which others do not slow us down.
  double Seconds() {
    if (processor_time_)
      return static_cast<double>(std::clock()) / CLOCKS_PER_SEC / device_.pool().threads();
    return absl::ToDoubleSeconds(Clock::Monotonic().Now() - absl::UnixEpoch());
  }

  // Prints the best of several runs, and its share of a bound: of both where the amount is not
  // zero.
  void Report(const std::string& name, double flops, double bytes,
              const std::function<void()>& queue) {
    if (name.find(only_) == std::string::npos) return;
    double best = 1e9, spent = 0;
    for (int i = 0; i < 50 && (i < 3 || spent < 1.5); ++i) {
      const double start = Seconds();
      queue();
      CHECK(kernels_->stream().Wait().ok());
      const double seconds = Seconds() - start;
      best = std::min(best, seconds);
      spent += seconds;
    }
    std::printf("%-44s %10.1f us", name.c_str(), best * 1e6);
    if (flops > 0) std::printf("  %5.1f %% of FMA", 100 * flops / best / flops_);
    if (bytes > 0)
      std::printf("  %5.1f %% of read (%.1f GB/s)", 100 * bytes / best / bytes_,
                  bytes / best / 1e9);
    std::printf("\n");
    std::fflush(stdout);
  }

  void MatMul(const MatMulShape& shape, int64_t rows, bool few) {
    const std::string name = std::string(shape.name) + " " + std::to_string(shape.k) + "x" +
                             std::to_string(shape.columns) + ", rows " + std::to_string(rows);
    if (name.find(only_) == std::string::npos) return;
    // Matrices one after the other through a gigabyte, so that none is found in a cache.
    const int64_t size = shape.k * shape.columns;
    const int64_t copies =
        std::min<int64_t>(static_cast<int64_t>(weights_->size()) / 2 / size, few ? 100 : 2);
    const TensorView x = MakeFloats(rows, shape.k), out = MakeFloats(rows, shape.columns);
    std::vector<Weight> weights(static_cast<size_t>(copies));
    for (int64_t i = 0; i < copies; ++i) {
      weights[static_cast<size_t>(i)].view =
          ConstTensorView(static_cast<uint16_t*>(weights_->data()) + i * size, DType::kBF16,
                          {shape.columns, shape.k});
    }
    const double flops = 2.0 * static_cast<double>(rows * size * copies);
    Report(name, flops, few ? 2.0 * static_cast<double>(size * copies) : 0, [&] {
      for (const Weight& weight : weights) kernels_->MatMul(x, weight, nullptr, out);
    });
    buffers_.clear();
  }

  // `rows` rows of a sequence that holds `before` positions already.
  void Paged(int64_t rows, int64_t before) {
    const int heads = 28, kv_heads = 4, size = 128;
    const int64_t pages = (before + rows) / kPageSize + 1;
    const std::unique_ptr<Buffer> bytes =
        Make(static_cast<size_t>(pages * kPageSize * 2 * kv_heads * size) * 2);
    const CacheLayer cache = {bytes->data(), DType::kBF16, pages, kv_heads, size};
    const TensorView q = MakeFloats(rows, heads * size), out = MakeFloats(rows, heads * size);
    const TensorView k = MakeFloats(rows, kv_heads * size), v = MakeFloats(rows, kv_heads * size);
    const TensorView angles = MakeFloats(before + rows, size / 2);
    StepBatch batch;
    batch.query_starts = {0, static_cast<int32_t>(rows)};
    batch.page_starts = {0, static_cast<int32_t>(pages)};
    for (int64_t i = 0; i < rows; ++i) batch.positions.push_back(static_cast<int32_t>(before + i));
    for (int64_t i = 0; i < pages; ++i) batch.pages.push_back(static_cast<int32_t>(i));
    batch.tokens.resize(static_cast<size_t>(rows));
    const double seen =
        static_cast<double>(rows * before) + static_cast<double>(rows * (rows + 1)) / 2;
    const std::string what = std::to_string(rows) + " rows after " + std::to_string(before);
    Report("rope and store, " + what, 0, 0, [&] {
      kernels_->RopeStore(q, k, v, {angles, angles}, batch, cache);
    });
    Report("paged attention, " + what, 4.0 * seen * heads * size, 0,
           [&] { kernels_->PagedAttention(q, batch, cache, out); });
    buffers_.clear();
  }

  void Full(int64_t rows) {
    const int heads = 16, size = 72;
    const TensorView q = MakeFloats(rows, heads * size), k = MakeFloats(rows, heads * size);
    const TensorView v = MakeFloats(rows, heads * size), out = MakeFloats(rows, heads * size);
    const int32_t starts[] = {0, static_cast<int32_t>(rows)};
    Report("full attention, " + std::to_string(rows) + " rows",
           4.0 * static_cast<double>(rows * rows) * heads * size, 0, [&] {
             kernels_->FullAttention(q, k, v, {starts, starts}, heads, out);
           });
    buffers_.clear();
  }

  void Rows() {
    const TensorView gate = MakeFloats(512, 18944), up = MakeFloats(512, 18944),
                     x = MakeFloats(1024, 4304);
    const TensorView hidden = MakeFloats(1024, 1152), normed = MakeFloats(1024, 1152),
                     vector = MakeFloats(1152, 1);
    const TensorView one = MakeFloats(1, 3584), out = MakeFloats(1, 3584),
                     wide = MakeFloats(3584, 1);
    const Weight weight = {ConstTensorView(vector.data, DType::kF32, {1152}), nullptr};
    const Weight wide_weight = {ConstTensorView(wide.data, DType::kF32, {3584}), nullptr};
    Report("silu, 512 x 18944", 0, 12.0 * 512 * 18944, [&] { kernels_->SiluMul(gate, up); });
    Report("gelu, 1024 x 4304", 0, 8.0 * 1024 * 4304, [&] { kernels_->Gelu(x); });
    Report("layer norm, 1024 x 1152", 0, 8.0 * 1024 * 1152,
           [&] { kernels_->LayerNorm(hidden, weight, weight, 1e-6f, normed); });
    Report("rms norm, 1 x 3584", 0, 0, [&] { kernels_->RmsNorm(one, wide_weight, 1e-6f, out); });
    buffers_.clear();
  }

  // What a verb costs beside its arithmetic.
  void Queue() {
    const TensorView x = MakeFloats(1, 8), delta = MakeFloats(1, 8);
    Report("a thousand verbs on 8 elements", 0, 0, [&] {
      for (int i = 0; i < 1000; ++i) kernels_->Add(x, delta);
    });
    buffers_.clear();
  }

  CpuDevice device_;
  std::string only_;
  bool processor_time_;
  std::unique_ptr<Buffer> weights_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::unique_ptr<Kernels> kernels_;
  double flops_ = 0, bytes_ = 0;
};

}  // namespace
}  // namespace minicpmv

int main(int argc, char** argv) {
  CLI::App app("Measures the kernels against the machine's own bounds");
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  std::string only;
  app.add_option("--threads", threads, "Threads that compute")->check(CLI::Range(1, 1024));
  app.add_option("--only", only, "Only what has this word in its name");
  bool processor_time = false;
  app.add_flag("--processor-time", processor_time,
               "Count the time of the processors: for a machine that others use, too");
  CLI11_PARSE(app, argc, argv);
  minicpmv::KernelsBench(threads, only, processor_time).Run();
  return 0;
}
