#include "runtime/model/vision_encoder.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "runtime/base/status_macros.h"
#include "runtime/media/patches.h"
#include "runtime/model/position_codes.h"
#include "runtime/model/weight_loader.h"

namespace minicpmv {
namespace {

constexpr int64_t kBatchPatches = 1024;  // enough rows to keep the products busy
constexpr int64_t kKeptPatches = 4096;   // room for more than this is given back after use
constexpr int64_t kPositions = 70;       // patches a side that the code is ready for from the start

}  // namespace

struct VisionEncoder::Rooms {
  int64_t patch_count = 0, image_count = 0;
  Scratch scratch;
  TensorView patches, x, normed, q, k, v, attended, delta, inner;  // tower: [patches, ...]
  TensorView features, coded, keys, values;                        // resampler: [patches, hidden]
  TensorView queries, gathered, projected;                         // resampler: [images * queries, hidden]
};

VisionEncoder::VisionEncoder(const ModelSpec& spec, Device& device, Kernels& kernels)
    : spec_(spec), device_(device), kernels_(kernels) {}
VisionEncoder::~VisionEncoder() = default;

absl::StatusOr<std::unique_ptr<VisionEncoder>> VisionEncoder::Load(const Checkpoint& checkpoint, const ModelSpec& spec,
                                                                   Device& device, Kernels& kernels) {
  auto encoder = std::unique_ptr<VisionEncoder>(new VisionEncoder(spec, device, kernels));
  RETURN_IF_ERROR(encoder->LoadTower(checkpoint));
  RETURN_IF_ERROR(encoder->LoadResampler(checkpoint));
  RETURN_IF_ERROR(encoder->ReservePositions(kPositions));
  return encoder;
}

absl::Status VisionEncoder::LoadTower(const Checkpoint& checkpoint) {
  const VisionSpec& vision = spec_.vision;
  const VisionNames& names = spec_.family->vision;
  const WeightLoader loader(checkpoint, kernels_);
  const auto linear = [&](absl::string_view part, int64_t layer, int64_t rows, int64_t columns, Weight& weight,
                          Weight& bias) -> absl::Status {
    ASSIGN_OR_RETURN(weight, loader.Matrix(WeightLoader::WeightOf(part), layer, rows, columns));
    ASSIGN_OR_RETURN(bias, loader.Vector(WeightLoader::BiasOf(part), layer, rows));
    return absl::OkStatus();
  };
  const auto norm = [&](absl::string_view part, int64_t layer, Weight& weight, Weight& bias) -> absl::Status {
    ASSIGN_OR_RETURN(weight, loader.Vector(WeightLoader::WeightOf(part), layer, vision.hidden));
    ASSIGN_OR_RETURN(bias, loader.Vector(WeightLoader::BiasOf(part), layer, vision.hidden));
    return absl::OkStatus();
  };
  const int64_t width = vision.hidden;
  RETURN_IF_ERROR(linear(names.patch, 0, width, 3 * vision.patch_size * vision.patch_size, patch_, patch_bias_));
  ASSIGN_OR_RETURN(positions_, loader.Matrix(names.positions, 0, vision.table_side * vision.table_side, width));
  for (int64_t i = 0; i < vision.layers; ++i) {
    Layer layer;
    RETURN_IF_ERROR(norm(names.norm1, i, layer.norm1, layer.norm1_bias));
    RETURN_IF_ERROR(linear(names.q, i, width, width, layer.q, layer.q_bias));
    RETURN_IF_ERROR(linear(names.k, i, width, width, layer.k, layer.k_bias));
    RETURN_IF_ERROR(linear(names.v, i, width, width, layer.v, layer.v_bias));
    RETURN_IF_ERROR(linear(names.out, i, width, width, layer.out, layer.out_bias));
    RETURN_IF_ERROR(norm(names.norm2, i, layer.norm2, layer.norm2_bias));
    RETURN_IF_ERROR(linear(names.fc1, i, vision.intermediate, width, layer.fc1, layer.fc1_bias));
    RETURN_IF_ERROR(linear(names.fc2, i, width, vision.intermediate, layer.fc2, layer.fc2_bias));
    layers_.push_back(std::move(layer));
  }
  return norm(names.final_norm, 0, final_norm_, final_norm_bias_);
}

absl::Status VisionEncoder::LoadResampler(const Checkpoint& checkpoint) {
  const ResamplerNames& names = spec_.family->resampler;
  const WeightLoader loader(checkpoint, kernels_);
  const int64_t width = spec_.language.hidden;
  const auto norm = [&](absl::string_view part, Weight& weight, Weight& bias) -> absl::Status {
    ASSIGN_OR_RETURN(weight, loader.Vector(WeightLoader::WeightOf(part), 0, width));
    ASSIGN_OR_RETURN(bias, loader.Vector(WeightLoader::BiasOf(part), 0, width));
    return absl::OkStatus();
  };
  // One matrix holds the rows of q, k and v, in that order.
  const auto input = [&](int part, Weight& weight, Weight& bias) -> absl::Status {
    ASSIGN_OR_RETURN(weight, loader.MatrixRows(names.in_weight, 3 * width, width, part * width, width));
    ASSIGN_OR_RETURN(bias, loader.VectorPart(names.in_bias, 3 * width, part * width, width));
    return absl::OkStatus();
  };
  ASSIGN_OR_RETURN(kv_, loader.Matrix(names.kv, 0, width, spec_.vision.hidden));
  RETURN_IF_ERROR(norm(names.norm_kv, norm_kv_, norm_kv_bias_));
  RETURN_IF_ERROR(input(1, k_, k_bias_));
  RETURN_IF_ERROR(input(2, v_, v_bias_));
  ASSIGN_OR_RETURN(out_, loader.Matrix(WeightLoader::WeightOf(names.out), 0, width, width));
  ASSIGN_OR_RETURN(out_bias_, loader.Vector(WeightLoader::BiasOf(names.out), 0, width));
  RETURN_IF_ERROR(norm(names.norm_post, norm_post_, norm_post_bias_));
  ASSIGN_OR_RETURN(proj_, loader.Transposed(names.proj, width, width));

  Weight query, norm_q, norm_q_bias, q, q_bias;
  ASSIGN_OR_RETURN(query, loader.Matrix(names.query, 0, queries(), width));
  RETURN_IF_ERROR(norm(names.norm_q, norm_q, norm_q_bias));
  RETURN_IF_ERROR(input(0, q, q_bias));
  ASSIGN_OR_RETURN(queries_, constants_.Add(device_, Shape{queries(), width}));
  Scratch room;
  ASSIGN_OR_RETURN(const TensorView normed, room.Add(device_, Shape{queries(), width}));
  kernels_.Cast(query.view, normed);
  kernels_.LayerNorm(normed, norm_q, norm_q_bias, spec_.resampler.norm_epsilon, normed);
  kernels_.MatMul(normed, q, &q_bias, queries_);
  return kernels_.stream().Wait();
}

absl::Status VisionEncoder::ReservePositions(int64_t positions) {
  const int64_t width = spec_.language.hidden;
  if (codes_.view.data != nullptr && codes_.view.rows() >= positions) return absl::OkStatus();
  axis_codes_ = AxisCodes(positions, width);
  ASSIGN_OR_RETURN(codes_, kernels_.Prepare(ConstTensorView(axis_codes_.data(), DType::kF32, Shape{positions, width / 2})));
  return absl::OkStatus();
}

absl::Status VisionEncoder::ReserveRooms(int64_t patches, int64_t sub_images) {
  if (rooms_ != nullptr && rooms_->patch_count >= patches && rooms_->image_count >= sub_images) return absl::OkStatus();
  auto rooms = std::make_unique<Rooms>();
  rooms->patch_count = patches;
  rooms->image_count = sub_images;
  rooms_.reset();  // the old ones go first: both together may be too much
  const VisionSpec& vision = spec_.vision;
  const int64_t width = spec_.language.hidden;
  const int64_t rows = sub_images * queries();
  struct Want {
    TensorView& view;
    int64_t rows, columns;
  };
  for (const Want& want : {Want{rooms->patches, patches, 3 * vision.patch_size * vision.patch_size},
                           Want{rooms->x, patches, vision.hidden}, Want{rooms->normed, patches, vision.hidden},
                           Want{rooms->q, patches, vision.hidden}, Want{rooms->k, patches, vision.hidden},
                           Want{rooms->v, patches, vision.hidden}, Want{rooms->attended, patches, vision.hidden},
                           Want{rooms->delta, patches, vision.hidden}, Want{rooms->inner, patches, vision.intermediate},
                           Want{rooms->features, patches, width}, Want{rooms->coded, patches, width},
                           Want{rooms->keys, patches, width}, Want{rooms->values, patches, width},
                           Want{rooms->queries, rows, width}, Want{rooms->gathered, rows, width},
                           Want{rooms->projected, rows, width}}) {
    ASSIGN_OR_RETURN(want.view, rooms->scratch.Add(device_, Shape{want.rows, want.columns}));
  }
  rooms_ = std::move(rooms);
  return absl::OkStatus();
}

absl::Status VisionEncoder::Encode(absl::Span<const Image> sub_images, TensorView out,
                                   absl::FunctionRef<void(int64_t done)> progress, const ActivationObserver* observer) {
  CHECK_EQ(out.rows(), static_cast<int64_t>(sub_images.size()) * queries());
  const int patch_size = static_cast<int>(spec_.vision.patch_size);
  std::vector<PatchedImage> batch;
  int64_t patches = 0, done = 0;
  for (size_t i = 0; i < sub_images.size(); ++i) {
    PatchedImage grid = {sub_images[i].height / patch_size, sub_images[i].width / patch_size, {}};
    const int64_t count = int64_t{grid.rows} * grid.columns;
    grid.patches.resize(static_cast<size_t>(count * 3 * patch_size * patch_size));
    PatchRows(sub_images[i], patch_size, spec_.preprocess.mean, spec_.preprocess.std, grid.patches.data());
    batch.push_back(std::move(grid));
    patches += count;
    if (patches < kBatchPatches && i + 1 < sub_images.size()) continue;
    const int64_t images = static_cast<int64_t>(batch.size());
    RETURN_IF_ERROR(EncodePatched(batch, out.Rows(done * queries(), images * queries()), done == 0 ? observer : nullptr));
    done += images;
    progress(done);
    batch.clear();
    patches = 0;
  }
  if (rooms_ != nullptr && rooms_->patch_count > kKeptPatches) rooms_.reset();
  return absl::OkStatus();
}

absl::Status VisionEncoder::EncodePatched(absl::Span<const PatchedImage> grids, TensorView out,
                                        const ActivationObserver* observer) {
  const VisionSpec& vision = spec_.vision;
  const int64_t patch_width = 3 * vision.patch_size * vision.patch_size;
  std::vector<int32_t> patch_starts = {0}, query_starts = {0};
  std::vector<int32_t> places;       // of each patch in the position table
  std::vector<int32_t> coordinates;  // column, row of each patch
  std::vector<int32_t> query_ids;
  int64_t longest_side = 0;
  for (const PatchedImage& grid : grids) {
    CHECK(grid.rows > 0 && grid.columns > 0) << grid.rows << "x" << grid.columns;
    CHECK_EQ(static_cast<int64_t>(grid.patches.size()), int64_t{grid.rows} * grid.columns * patch_width);
    const std::vector<int32_t> row_buckets = PositionBuckets(grid.rows, vision.table_side);
    const std::vector<int32_t> column_buckets = PositionBuckets(grid.columns, vision.table_side);
    for (int row = 0; row < grid.rows; ++row) {
      for (int column = 0; column < grid.columns; ++column) {
        places.push_back(static_cast<int32_t>(row_buckets[row] * vision.table_side + column_buckets[column]));
        coordinates.push_back(column);
        coordinates.push_back(row);
      }
    }
    for (int32_t i = 0; i < queries(); ++i) query_ids.push_back(i);
    patch_starts.push_back(static_cast<int32_t>(places.size()));
    query_starts.push_back(static_cast<int32_t>(query_ids.size()));
    longest_side = std::max<int64_t>({longest_side, grid.rows, grid.columns});
  }
  const int64_t patches = static_cast<int64_t>(places.size());
  RETURN_IF_ERROR(ReservePositions(longest_side));
  RETURN_IF_ERROR(ReserveRooms(patches, static_cast<int64_t>(grids.size())));

  Rooms& r = *rooms_;
  const TensorView patch_rows = r.patches.Rows(0, patches), x = r.x.Rows(0, patches), delta = r.delta.Rows(0, patches);
  for (size_t i = 0; i < grids.size(); ++i) {
    const int64_t count = patch_starts[i + 1] - patch_starts[i];
    kernels_.Cast(ConstTensorView(grids[i].patches.data(), DType::kF32, Shape{count, patch_width}),
                  patch_rows.Rows(patch_starts[i], count));
  }
  kernels_.MatMul(patch_rows, patch_, &patch_bias_, x);
  kernels_.GatherRows(positions_.view, places, delta);
  kernels_.Add(x, delta);
  const AttentionSpans among_patches = {patch_starts, patch_starts};
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (observer != nullptr) (*observer)(absl::StrFormat("vision.0.%02d", i), x.Rows(0, patch_starts[1]));
    RunLayer(layers_[i], patches, among_patches);
  }
  if (observer != nullptr) (*observer)(absl::StrFormat("vision.0.%02d", layers_.size()), x.Rows(0, patch_starts[1]));
  const TensorView normed = r.normed.Rows(0, patches);
  kernels_.LayerNorm(x, final_norm_, final_norm_bias_, vision.norm_epsilon, normed);
  if (observer != nullptr) (*observer)("vision.0.out", normed.Rows(0, patch_starts[1]));

  const float epsilon = spec_.resampler.norm_epsilon;
  const int64_t width = spec_.language.hidden, rows = static_cast<int64_t>(query_ids.size());
  const TensorView features = r.features.Rows(0, patches), coded = r.coded.Rows(0, patches);
  const TensorView keys = r.keys.Rows(0, patches), values = r.values.Rows(0, patches);
  const TensorView queries = r.queries.Rows(0, rows), gathered = r.gathered.Rows(0, rows);
  const TensorView projected = r.projected.Rows(0, rows);
  kernels_.MatMul(normed, kv_, nullptr, features);
  kernels_.LayerNorm(features, norm_kv_, norm_kv_bias_, epsilon, features);
  kernels_.GatherRows(codes_.view, coordinates, TensorView(coded.data, DType::kF32, Shape{2 * patches, width / 2}));
  kernels_.Add(coded, features);
  kernels_.MatMul(coded, k_, &k_bias_, keys);
  kernels_.MatMul(features, v_, &v_bias_, values);
  kernels_.GatherRows(queries_, query_ids, queries);
  kernels_.FullAttention(queries, keys, values, AttentionSpans{query_starts, patch_starts},
                         static_cast<int>(spec_.resampler.heads), gathered);
  kernels_.MatMul(gathered, out_, &out_bias_, projected);
  kernels_.LayerNorm(projected, norm_post_, norm_post_bias_, epsilon, projected);
  kernels_.MatMul(projected, proj_, nullptr, gathered);
  kernels_.Cast(gathered, out);
  return kernels_.stream().Wait();
}

void VisionEncoder::RunLayer(const Layer& layer, int64_t patches, const AttentionSpans& spans) {
  Rooms& r = *rooms_;
  const float epsilon = spec_.vision.norm_epsilon;
  const TensorView x = r.x.Rows(0, patches), normed = r.normed.Rows(0, patches), delta = r.delta.Rows(0, patches);
  const TensorView q = r.q.Rows(0, patches), k = r.k.Rows(0, patches), v = r.v.Rows(0, patches);
  const TensorView attended = r.attended.Rows(0, patches), inner = r.inner.Rows(0, patches);
  kernels_.LayerNorm(x, layer.norm1, layer.norm1_bias, epsilon, normed);
  kernels_.MatMulMany(normed, {{&layer.q, &layer.q_bias, q}, {&layer.k, &layer.k_bias, k}, {&layer.v, &layer.v_bias, v}});
  kernels_.FullAttention(q, k, v, spans, static_cast<int>(spec_.vision.heads), attended);
  kernels_.MatMul(attended, layer.out, &layer.out_bias, delta);
  kernels_.AddLayerNorm(x, delta, layer.norm2, layer.norm2_bias, epsilon, normed);
  kernels_.stream().Yield();  // whoever streams a reply on this device does not wait for a picture
  kernels_.MatMul(normed, layer.fc1, &layer.fc1_bias, inner);
  kernels_.Gelu(inner);
  kernels_.stream().Yield();
  kernels_.MatMul(inner, layer.fc2, &layer.fc2_bias, delta);
  kernels_.Add(x, delta);
  kernels_.stream().Yield();
}

}  // namespace minicpmv
