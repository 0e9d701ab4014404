#include "tools/minicpmv/tokenize.h"

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/blame.h"
#include "runtime/base/status_macros.h"
#include "tools/minicpmv/model_folder.h"
#include "tools/minicpmv/output.h"

namespace minicpmv {
namespace {

using Json = nlohmann::json;

absl::StatusOr<std::string> IdsOf(const std::string& line, const TokenizeOptions& options,
                                  const Tokenizer& tokenizer) {
  const Json text = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!text.is_string()) return absl::InvalidArgumentError("is no JSON string in UTF-8");
  ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                   tokenizer.Encode(text.get_ref<const std::string&>(), options.tags));
  return absl::StrCat("[", absl::StrJoin(ids, ", "), "]\n");
}

absl::StatusOr<std::string> TextOf(const std::string& line, const Tokenizer& tokenizer) {
  const Json list = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!list.is_array()) return absl::InvalidArgumentError("is no JSON list of token ids");
  std::vector<int32_t> ids;
  for (const Json& id : list) {
    if (!id.is_number_integer()) return absl::InvalidArgumentError("is no JSON list of token ids");
    // What is beyond int64 wraps to a negative number here, which is out of range as well.
    const auto number = id.get<int64_t>();
    if (number < 0 || number >= tokenizer.size()) {
      return absl::OutOfRangeError(
          absl::StrCat("id ", id.dump(), " is not in [0, ", tokenizer.size(), ")"));
    }
    ids.push_back(static_cast<int32_t>(number));
  }
  return absl::StrCat(Json(tokenizer.Decode(ids)).dump(), "\n");
}

}  // namespace

absl::Status Tokenize(const TokenizeOptions& options) {
  ASSIGN_OR_RETURN(const std::string folder, ResolveModelFolder(options.folder));
  ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, Tokenizer::Load(folder));
  std::ios::sync_with_stdio(false);
  std::string line;
  for (int64_t number = 1; std::getline(std::cin, line); ++number) {
    const absl::StatusOr<std::string> answer =
        options.decode ? TextOf(line, *tokenizer) : IdsOf(line, options, *tokenizer);
    if (!answer.ok()) {
      return Blame(absl::StrCat("line ", number, " of standard input"), answer.status());
    }
    RETURN_IF_ERROR(WriteOutput(*answer));
  }
  return absl::OkStatus();
}

}  // namespace minicpmv
