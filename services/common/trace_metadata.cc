#include "services/common/trace_metadata.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/tracing.h"

namespace minicpmv {
namespace {

// Several lines of one name are one list.
std::string Joined(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata,
                   absl::string_view name) {
  std::string joined;
  const auto [first, last] = metadata.equal_range({name.data(), name.size()});
  for (auto entry = first; entry != last; ++entry) {
    absl::StrAppend(&joined, entry == first ? "" : ",",
                    absl::string_view(entry->second.data(), entry->second.size()));
  }
  return joined;
}

}  // namespace

TraceContext TraceContextOf(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata) {
  return ContinueTrace(Joined(metadata, kTraceparent), Joined(metadata, kTracestate));
}

TraceContext TraceContextIfTracing(
    const std::multimap<grpc::string_ref, grpc::string_ref>& metadata) {
  return IsTracing() ? TraceContextOf(metadata) : TraceContext();
}

void AddTraceContext(const TraceContext& work, grpc::ClientContext& context) {
  if (work.empty()) return;
  context.AddMetadata(std::string(kTraceparent), work.Traceparent());
  if (!work.state.empty()) context.AddMetadata(std::string(kTracestate), work.state);
}

}  // namespace minicpmv
