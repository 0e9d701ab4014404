#include "tools/minicpmv/tenants_file.h"

#include <yaml-cpp/yaml.h>

#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/blame.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"
#include "services/common/read_prompt.h"

namespace minicpmv {
namespace {

constexpr size_t kMaxFile = 1 << 20;
// Far above what any fleet does, far below where sums lose digits.
constexpr double kMost = 1e15;

absl::Status ReadTerm(const std::string& name, const YAML::Node& node, router::TenantTerms& terms) {
  double value = 0;
  if (!node.IsScalar() || !absl::SimpleAtod(node.Scalar(), &value) || !(value > 0) ||
      !(value <= kMost)) {
    return absl::InvalidArgumentError(absl::StrCat(Quoted(name), ": no number above 0"));
  }
  if (name == "weight") {
    terms.weight = value;
  } else if (name == "requests-per-minute") {
    terms.requests = value;
  } else if (name == "tokens-per-minute") {
    terms.tokens = value;
  } else if (name == "megapixels-per-minute") {
    terms.pixels = 1e6 * value;
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        Quoted(name),
        " is none of weight, requests-per-minute, tokens-per-minute, megapixels-per-minute"));
  }
  return absl::OkStatus();
}

absl::StatusOr<router::TenantTerms> ReadTerms(const YAML::Node& node) {
  router::TenantTerms terms;
  if (node.IsNull()) return terms;
  if (!node.IsMap()) return absl::InvalidArgumentError("not a list of \"term: number\"");
  for (const auto& entry : node) {
    if (!entry.first.IsScalar()) return absl::InvalidArgumentError("a key is no term's name");
    RETURN_IF_ERROR(ReadTerm(entry.first.Scalar(), entry.second, terms));
  }
  return terms;
}

absl::StatusOr<router::TenantBook> ReadBook(const YAML::Node& file) {
  router::TenantBook book;
  if (!file.IsMap()) return absl::InvalidArgumentError("holds neither tenants nor others");
  for (const auto& entry : file) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
    if (key == "others") {
      absl::StatusOr<router::TenantTerms> terms = ReadTerms(entry.second);
      if (!terms.ok()) return Blame(key, terms.status());
      book.others = *terms;
      continue;
    }
    if (key != "tenants" || !entry.second.IsMap()) {
      return absl::InvalidArgumentError(
          absl::StrCat(Quoted(key), ": expected are tenants, by name, and others"));
    }
    for (const auto& tenant : entry.second) {
      const std::string name = tenant.first.IsScalar() ? tenant.first.Scalar() : "";
      if (name.empty() || name.size() > kMaxCacheScopeBytes) {
        return absl::InvalidArgumentError(absl::StrCat(
            "a tenant's name has 1 to ", kMaxCacheScopeBytes, " bytes: ", Quoted(name)));
      }
      absl::StatusOr<router::TenantTerms> terms = ReadTerms(tenant.second);
      if (!terms.ok()) return Blame(absl::StrCat("tenant ", Quoted(name)), terms.status());
      if (!book.named.emplace(name, *terms).second) {
        return absl::InvalidArgumentError(absl::StrCat("tenant ", Quoted(name), " comes twice"));
      }
    }
  }
  return book;
}

}  // namespace

absl::StatusOr<router::TenantBook> ReadTenants(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxFile));
  try {
    absl::StatusOr<router::TenantBook> book = ReadBook(YAML::Load(text));
    if (!book.ok()) return Blame(path, book.status());
    return book;
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": line ", error.mark.line + 1, ": not YAML: ", Quoted(error.msg)));
  }
}

}  // namespace minicpmv
