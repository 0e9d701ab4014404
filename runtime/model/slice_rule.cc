#include "runtime/model/slice_rule.h"

namespace minicpmv {

SliceRule SliceRuleOf(const ModelSpec& spec) {
  SliceRule rule;
  rule.scale_resolution = spec.preprocess.scale_resolution;
  rule.patch_size = static_cast<int>(spec.vision.patch_size);
  rule.max_slices = spec.preprocess.max_slices;
  rule.slice_mode = spec.preprocess.slice_mode;
  return rule;
}

}  // namespace minicpmv
