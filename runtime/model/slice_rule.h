#pragma once

#include "runtime/media/slicing.h"
#include "runtime/model/family.h"

namespace minicpmv {

// How a model cuts pictures, unless a request says otherwise.
SliceRule SliceRuleOf(const ModelSpec& spec);

}  // namespace minicpmv
