#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "services/router/loop.h"
#include "services/router/router_watch.h"
#include "services/router/tenants.h"

namespace minicpmv::router {

// What is left to each tenant of what it may use in a minute: it grows back steadily, up to a
// minute's worth. Asking is allowed while anything is left, and what was used is taken off, also
// below nothing: nobody has to know beforehand how much a request comes to, and a large one is only
// followed by a longer wait. Of this router only. For the loop's thread.
class Quotas {
 public:
  enum Kind { kRequests, kTokens, kPixels };
  static constexpr int kKinds = 3;

  // All outlive it.
  Quotas(const TenantBook& book, const Loop& loop, RouterWatch& watch)
      : book_(book), loop_(loop), watch_(watch) {}

  // RESOURCE_EXHAUSTED (QUOTA_EXCEEDED, with QuotaFailure and RetryInfo): of some kind nothing is
  // left.
  absl::Status Check(const std::string& tenant);
  void Use(const std::string& tenant, Kind kind, double amount);

 private:
  struct Account {
    std::array<double, kKinds> granted = {}, left = {};
    absl::Time counted;  // when
  };
  // As it is now; nothing: the tenant is not limited.
  Account* AccountOf(const std::string& tenant);
  void Refill(Account& account) const;
  void ForgetWhoHasAll();

  const TenantBook& book_;
  const Loop& loop_;
  RouterWatch& watch_;
  std::map<std::string, Account> accounts_;
  static constexpr size_t kFirstSweep = 1024;  // accounts
  size_t sweep_at_ = kFirstSweep;
};

}  // namespace minicpmv::router
