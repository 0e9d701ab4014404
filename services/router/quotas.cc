#include "services/router/quotas.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/common/status_proto.h"

namespace minicpmv::router {
namespace {

constexpr absl::Duration kMinute = absl::Minutes(1);
constexpr absl::Duration kShortestRetry = absl::Milliseconds(100);
constexpr std::array<absl::string_view, Quotas::kKinds> kNames = {"requests", "tokens", "pixels"};

std::array<double, Quotas::kKinds> GrantsOf(const TenantTerms& terms) {
  return {terms.requests, terms.tokens, terms.pixels};
}

}  // namespace

Quotas::Account* Quotas::AccountOf(const std::string& tenant) {
  const std::array<double, kKinds> grants = GrantsOf(book_.TermsOf(tenant));
  if (std::all_of(grants.begin(), grants.end(), [](double grant) { return std::isinf(grant); })) {
    return nullptr;
  }
  if (accounts_.size() >= sweep_at_ && !accounts_.contains(tenant)) ForgetWhoHasAll();
  const absl::Time now = loop_.Now();
  const auto [account, is_new] = accounts_.try_emplace(tenant, Account{grants, now});
  const double share = absl::FDivDuration(now - account->second.counted, kMinute);
  for (int kind = 0; kind < kKinds; ++kind) {
    double& left = account->second.left[kind];
    if (std::isfinite(grants[kind])) left = std::min(left + share * grants[kind], grants[kind]);
  }
  account->second.counted = now;
  return &account->second;
}

void Quotas::ForgetWhoHasAll() {
  for (auto account = accounts_.begin(); account != accounts_.end();) {
    const std::string tenant = (account++)->first;
    if (AccountOf(tenant)->left == GrantsOf(book_.TermsOf(tenant))) accounts_.erase(tenant);
  }
  sweep_at_ = std::max<size_t>(1024, 2 * accounts_.size());
}

absl::Status Quotas::Check(const std::string& tenant) {
  const Account* const account = AccountOf(tenant);
  if (account == nullptr) return absl::OkStatus();
  const std::array<double, kKinds> grants = GrantsOf(book_.TermsOf(tenant));
  // Who has just reached zero waits for a thousandth of a minute's worth, so that it is not refused
  // again for the last digit.
  for (int kind = 0; kind < kKinds; ++kind) {
    if (account->left[kind] > 0) continue;
    const double missing = grants[kind] / 1000 - account->left[kind];
    const absl::Duration wait = std::max(kMinute * (missing / grants[kind]), kShortestRetry);
    watch_.OnRejected("QUOTA_EXCEEDED");
    absl::Status status = absl::ResourceExhaustedError(absl::StrCat(
        "the tenant's ", kNames[kind], " are used up: ", grants[kind], " a minute are granted"));
    status = WithQuota(WithReason(std::move(status), "QUOTA_EXCEEDED"), tenant);
    return WithRetryAfter(std::move(status), wait);
  }
  return absl::OkStatus();
}

void Quotas::Use(const std::string& tenant, Kind kind, double amount) {
  if (Account* const account = AccountOf(tenant)) account->left[kind] -= amount;
}

}  // namespace minicpmv::router
