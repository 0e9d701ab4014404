#include "runtime/checkpoint/safetensors_index.h"

#include <utility>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/json_file.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {
namespace {

bool StaysInItsFolder(absl::string_view shard) {
  return !shard.empty() && shard[0] != '/' && !absl::StrContains(shard, '\0') &&
         !absl::c_linear_search(absl::StrSplit(shard, '/'), "..");
}

}  // namespace

absl::StatusOr<SafetensorsIndex> ParseSafetensorsIndex(absl::string_view text,
                                                       absl::string_view name) {
  ASSIGN_OR_RETURN(const JsonObject index, JsonObject::Parse(text, name));
  ASSIGN_OR_RETURN(const JsonObject weight_map, index.Object("weight_map"));
  SafetensorsIndex shards;
  for (const absl::string_view tensor : weight_map.keys()) {
    ASSIGN_OR_RETURN(std::string shard, weight_map.String(tensor));
    if (!StaysInItsFolder(shard)) {
      return weight_map.Error(
          tensor, absl::StrCat("is ", Quoted(shard), ", no file in the index's own folder"));
    }
    shards.emplace(tensor, std::move(shard));
  }
  if (shards.empty()) return index.Error("weight_map", "lists no tensor");
  return shards;
}

}  // namespace minicpmv
