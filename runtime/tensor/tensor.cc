#include "runtime/tensor/tensor.h"

#include "absl/strings/str_cat.h"

namespace minicpmv {

std::string Shape::ToString() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) absl::StrAppend(&text, i == 0 ? "" : ", ", sizes_[i]);
  return text + "]";
}

}  // namespace minicpmv
