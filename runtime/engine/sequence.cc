#include "runtime/engine/sequence.h"

namespace minicpmv {

void SequenceObserver::OnLogits(int64_t, absl::Span<const float>) {}

}  // namespace minicpmv
