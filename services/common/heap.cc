#include "services/common/heap.h"

#include <malloc.h>

namespace minicpmv {

void KeepFreedMemory() {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that it takes
  mallopt(M_TRIM_THRESHOLD, 256 << 20);
}

}  // namespace minicpmv
