#include "services/common/grpc_log.h"

#include <grpc/support/log.h>

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "runtime/base/quoted.h"

namespace minicpmv {

void SendGrpcLogToOurs() {
  // Words of peers may be in it. Errors are of one connection, and never ours alone: a warning.
  gpr_set_log_function([](gpr_log_func_args* line) {
    LogWarning(absl::StrCat("grpc: ", Quoted(line->message, 500)));
  });
}

}  // namespace minicpmv
