#pragma once

#include <limits>
#include <map>
#include <string>

namespace minicpmv::router {

// What a tenant is granted.
struct TenantTerms {
  // Of the fleet's work, beside others who wait: twice as much with twice the weight. > 0.
  double weight = 1;
  // What it may use in a minute.
  double requests = std::numeric_limits<double>::infinity();
  double tokens = std::numeric_limits<double>::infinity();  // of prompts and of replies
  double pixels = std::numeric_limits<double>::infinity();  // of pictures, as they are sent
};

// Who is granted what. Without any names each cache scope is a tenant of its own, on the terms of
// `others`; with names, all scopes that are not among them are one tenant.
struct TenantBook {
  std::map<std::string, TenantTerms> named;
  TenantTerms others;

  // Under which name a cache scope is counted.
  const std::string& TenantOf(const std::string& cache_scope) const {
    static const std::string kOthers;
    return named.empty() || named.contains(cache_scope) ? cache_scope : kOthers;
  }
  const TenantTerms& TermsOf(const std::string& tenant) const {
    const auto found = named.find(tenant);
    return found == named.end() ? others : found->second;
  }
};

}  // namespace minicpmv::router
