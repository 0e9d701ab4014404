#include "runtime/base/check.h"

#include <cstdio>
#include <cstdlib>

#include "runtime/base/log.h"

namespace minicpmv {

CheckFailure::CheckFailure(const char* file, int line, const char* what) {
  words_ << file << ":" << line << ": CHECK failed: " << what << " ";
}

CheckFailure::~CheckFailure() {
  if (IsLogJson()) {
    LogError(words_.str());
  } else {
    std::fprintf(stderr, "%s\n", words_.str().c_str());
  }
  std::abort();
}

}  // namespace minicpmv
