#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/kernels/kernels.h"

namespace minicpmv {

// Finds tensors by a family's names and holds each to the shape that the spec demands. A name may hold "{}", the layer.
// NOT_FOUND: no such tensor. INVALID_ARGUMENT: another shape, or no float dtype; the words name the tensor and both shapes.
class WeightLoader {
 public:
  WeightLoader(const Checkpoint& checkpoint, Kernels& kernels) : checkpoint_(checkpoint), kernels_(kernels) {}

  // Any rank: rows is the first axis, columns all the others.
  absl::StatusOr<Weight> Matrix(absl::string_view name, int64_t layer, int64_t rows, int64_t columns) const;
  // Row `first` and the `rows` - 1 after it of a matrix of `all_rows`.
  absl::StatusOr<Weight> MatrixRows(absl::string_view name, int64_t all_rows, int64_t columns, int64_t first,
                                    int64_t rows) const;
  absl::StatusOr<Weight> Transposed(absl::string_view name, int64_t rows, int64_t columns) const;
  absl::StatusOr<Weight> Vector(absl::string_view name, int64_t layer, int64_t size) const;
  absl::StatusOr<Weight> VectorPart(absl::string_view name, int64_t size, int64_t first, int64_t count) const;
  // "X.weight" and "X.bias" are two tensors of one layer's part X.
  static std::string WeightOf(absl::string_view part);
  static std::string BiasOf(absl::string_view part);

 private:
  const Checkpoint& checkpoint_;
  Kernels& kernels_;
};

// The tensor itself, checked as above: for those who only count bytes.
absl::StatusOr<ConstTensorView> FindTensor(const Checkpoint& checkpoint, absl::string_view name, int64_t layer, int64_t rows,
                                           int64_t columns);

}  // namespace minicpmv
