#include <csignal>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"
#include "tools/minicpmv/command_line.h"
#include "tools/minicpmv/errors.h"
#include "tools/minicpmv/output.h"
#include "tools/minicpmv/serve.h"

namespace minicpmv {
namespace {

absl::Status Run(const ChatOptions& options) { return Chat(options); }
absl::Status Run(const TraceOptions& options) { return Trace(options); }
absl::Status Run(const TokenizeOptions& options) { return Tokenize(options); }
absl::Status Run(const InspectOptions& options) { return Inspect(options); }
absl::Status Run(const BenchOptions& options) { return Bench(options); }
absl::Status Run(const BenchServeOptions& options) { return BenchServe(options); }
absl::Status Run(const WorkersOptions& options) { return ShowWorkers(options); }
absl::Status Run(const ServeWorkerOptions& options) { return ServeWorker(options); }
absl::Status Run(const ServeRouterOptions& options) { return ServeRouter(options); }
absl::Status Run(const ServeGatewayOptions& options) { return ServeGateway(options); }
absl::Status Run(const ServeAllOptions& options) { return ServeAll(options); }
absl::Status Run(const ClusterOptions& options) { return Cluster(options); }

absl::Status Main(int argc, const char* const* argv) {
  ASSIGN_OR_RETURN(const std::optional<Command> command, ParseCommandLine(argc, argv));
  if (!command.has_value()) return absl::OkStatus();
  return std::visit([](const auto& options) { return Run(options); }, *command);
}

// Where logs are JSON so is the last word.
void WriteError(const std::string& line) {
  if (IsLogJson()) {
    LogError(line);
  } else {
    WriteNotice(absl::StrCat(line, "\n"));
  }
}

}  // namespace
}  // namespace minicpmv

int main(int argc, char** argv) {
  // A reader that has gone is an error of write(), with words, and sequences in flight end in
  // order.
  std::signal(SIGPIPE, SIG_IGN);
  const absl::Status status = minicpmv::Main(argc, argv);
  if (!status.ok()) minicpmv::WriteError(minicpmv::ErrorLine(status));
  return minicpmv::ExitStatusOf(status);
}
