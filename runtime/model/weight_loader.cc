#include "runtime/model/weight_loader.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {

std::string WeightLoader::WeightOf(absl::string_view part) { return absl::StrCat(part, ".weight"); }
std::string WeightLoader::BiasOf(absl::string_view part) { return absl::StrCat(part, ".bias"); }

absl::StatusOr<ConstTensorView> FindTensor(const Checkpoint& checkpoint, absl::string_view name, int64_t layer, int64_t rows,
                                           int64_t columns) {
  const std::string full_name = absl::StrReplaceAll(name, {{"{}", absl::StrCat(layer)}});
  ASSIGN_OR_RETURN(const ConstTensorView tensor, checkpoint.Find(full_name));
  if (tensor.dtype != DType::kF32 && tensor.dtype != DType::kBF16 && tensor.dtype != DType::kF16) {
    return absl::InvalidArgumentError(
        absl::StrCat(checkpoint.path(), ": ", full_name, " is ", NameOf(tensor.dtype), ", expected f32, bf16 or f16"));
  }
  if (tensor.shape.rank() == 0 || tensor.rows() != rows || tensor.columns() != columns) {
    const Shape wanted = columns == 1 ? Shape{rows} : Shape{rows, columns};
    return absl::InvalidArgumentError(absl::StrCat(checkpoint.path(), ": ", full_name, " has shape ", tensor.shape.ToString(),
                                                   ", the configuration asks for ", wanted.ToString()));
  }
  return tensor;
}

absl::StatusOr<Weight> WeightLoader::Matrix(absl::string_view name, int64_t layer, int64_t rows, int64_t columns) const {
  return MatrixRows(absl::StrReplaceAll(name, {{"{}", absl::StrCat(layer)}}), rows, columns, 0, rows);
}

absl::StatusOr<Weight> WeightLoader::MatrixRows(absl::string_view name, int64_t all_rows, int64_t columns, int64_t first,
                                                int64_t rows) const {
  ASSIGN_OR_RETURN(const ConstTensorView tensor, FindTensor(checkpoint_, name, 0, all_rows, columns));
  const ConstTensorView flat(tensor.data, tensor.dtype, Shape{all_rows, columns});
  return kernels_.Prepare(flat.Rows(first, rows));
}

absl::StatusOr<Weight> WeightLoader::Transposed(absl::string_view name, int64_t rows, int64_t columns) const {
  ASSIGN_OR_RETURN(const ConstTensorView tensor, FindTensor(checkpoint_, name, 0, rows, columns));
  return kernels_.PrepareTransposed(tensor);
}

absl::StatusOr<Weight> WeightLoader::Vector(absl::string_view name, int64_t layer, int64_t size) const {
  return VectorPart(absl::StrReplaceAll(name, {{"{}", absl::StrCat(layer)}}), size, 0, size);
}

absl::StatusOr<Weight> WeightLoader::VectorPart(absl::string_view name, int64_t size, int64_t first, int64_t count) const {
  ASSIGN_OR_RETURN(const ConstTensorView tensor, FindTensor(checkpoint_, name, 0, size, 1));
  return kernels_.Prepare(ConstTensorView(tensor.data, tensor.dtype, Shape{size}).Rows(first, count));
}

}  // namespace minicpmv
