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

}  // namespace

Quotas::Account* Quotas::AccountOf(const std::string& tenant) {
  const TenantTerms& terms = book_.TermsOf(tenant);
  const std::array<double, kKinds> granted = {terms.requests, terms.tokens, terms.pixels};
  if (std::all_of(granted.begin(), granted.end(), [](double grant) { return std::isinf(grant); })) {
    return nullptr;
  }
  if (accounts_.size() >= sweep_at_ && !accounts_.contains(tenant)) ForgetWhoHasAll();
  const auto account = accounts_.try_emplace(tenant, Account{granted, granted, loop_.Now()}).first;
  Refill(account->second);
  return &account->second;
}

void Quotas::Refill(Account& account) const {
  const absl::Time now = loop_.Now();
  const double share = absl::FDivDuration(now - account.counted, kMinute);
  for (int kind = 0; kind < kKinds; ++kind) {
    const double granted = account.granted[kind];
    double& left = account.left[kind];
    if (std::isfinite(granted)) left = std::min(left + share * granted, granted);
  }
  account.counted = now;
}

void Quotas::ForgetWhoHasAll() {
  for (auto& [tenant, account] : accounts_) Refill(account);
  std::erase_if(accounts_,
                [](const auto& entry) { return entry.second.left == entry.second.granted; });
  sweep_at_ = std::max(kFirstSweep, 2 * accounts_.size());
}

absl::Status Quotas::Check(const std::string& tenant) {
  const Account* const account = AccountOf(tenant);
  if (account == nullptr) return absl::OkStatus();
  // Who has just reached zero waits for a thousandth of a minute's worth, so that it is not refused
  // again for the last digit.
  for (int kind = 0; kind < kKinds; ++kind) {
    if (account->left[kind] > 0) continue;
    const double granted = account->granted[kind];
    const double missing = granted / 1000 - account->left[kind];
    const absl::Duration wait = std::max(kMinute * (missing / granted), kShortestRetry);
    watch_.OnRejected("QUOTA_EXCEEDED");
    absl::Status status = absl::ResourceExhaustedError(absl::StrCat(
        "the tenant's ", kNames[kind], " are used up: ", granted, " a minute are granted"));
    status = WithQuota(WithReason(std::move(status), "QUOTA_EXCEEDED"), tenant);
    return WithRetryAfter(std::move(status), wait);
  }
  return absl::OkStatus();
}

void Quotas::Use(const std::string& tenant, Kind kind, double amount) {
  if (Account* const account = AccountOf(tenant)) account->left[kind] -= amount;
}

}  // namespace minicpmv::router
