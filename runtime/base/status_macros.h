#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// RETURN_IF_ERROR(DoIt());                      leaves the function with the status when it is not
// OK ASSIGN_OR_RETURN(const int n, CountThem());   the value, or leaves the function with the
// status
#define RETURN_IF_ERROR(expression)                                         \
  do {                                                                      \
    if (absl::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)

#define MINICPMV_CONCAT_INNER(a, b) a##b
#define MINICPMV_CONCAT(a, b) MINICPMV_CONCAT_INNER(a, b)
#define ASSIGN_OR_RETURN(target, expression) \
  MINICPMV_ASSIGN_OR_RETURN(MINICPMV_CONCAT(status_or_, __LINE__), target, expression)
#define MINICPMV_ASSIGN_OR_RETURN(temporary, target, expression) \
  auto temporary = (expression);                                 \
  if (!temporary.ok()) return std::move(temporary).status();     \
  target = *std::move(temporary)
