#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace minicpmv {

// Unicode normalisation form C of valid UTF-8, in O(n log n) whatever the text. The result is
// `text` itself where nothing can change (no character from U+0300 on), else it looks into
// `storage`.
//
// It is the form of Unicode 9.0, which the Hugging Face tokenizers library has (its
// unicode-normalization-alignments 0.1.12): a character assigned later stays where and as it is,
// and marks are not moved across it.
absl::string_view ToNfc(absl::string_view text, std::string& storage);

}  // namespace minicpmv
