#include "services/gateway/remote_hosts.h"

#include <curl/curl.h>
#include <sys/socket.h>

#include <netinet/in.h>
#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/network_v4.hpp>
#include <boost/asio/ip/network_v6.hpp>
#include <cstring>
#include <memory>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "runtime/base/check.h"
#include "runtime/base/quoted.h"

namespace minicpmv::gateway {
namespace {

namespace ip = boost::asio::ip;

constexpr size_t kMaxUrlBytes = 8 << 10;

// What the network is full of that is not for everybody (RFC 6890 and its followers).
constexpr const char* kReservedV4[] = {
    "0.0.0.0/8",       "10.0.0.0/8",     "100.64.0.0/10", "127.0.0.0/8",    "169.254.0.0/16",
    "172.16.0.0/12",   "192.0.0.0/24",   "192.0.2.0/24",  "192.168.0.0/16", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",   "240.0.0.0/4"};
// Of the others only these are given out at all; some of them lead elsewhere.
constexpr char kPublicV6[] = "2000::/3";
constexpr const char* kReservedV6[] = {"2001::/23", "2001:db8::/32", "2002::/16"};

bool IsPublicV4(const ip::address_v4& address) {
  return std::none_of(std::begin(kReservedV4), std::end(kReservedV4), [&](const char* text) {
    const ip::network_v4 network = ip::make_network_v4(text);
    return ip::network_v4(address, network.prefix_length()).canonical() == network;
  });
}

bool IsIn(const ip::address_v6& address, const char* text) {
  const ip::network_v6 network = ip::make_network_v6(text);
  return ip::network_v6(address, network.prefix_length()).canonical() == network;
}

bool IsPublicV6(const ip::address_v6& address) {
  if (address.is_v4_mapped()) return IsPublicV4(ip::make_address_v4(ip::v4_mapped, address));
  return IsIn(address, kPublicV6) &&
         std::none_of(std::begin(kReservedV6), std::end(kReservedV6),
                      [&](const char* text) { return IsIn(address, text); });
}

bool IsAddress(const std::string& host) {
  boost::system::error_code error;
  ip::make_address(host, error);
  return !error;
}

absl::Status WrongEntry(const std::string& entry, absl::string_view words) {
  return absl::InvalidArgumentError(absl::StrCat(Quoted(entry), " ", words));
}

struct FreeUrl {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using Url = std::unique_ptr<CURLU, FreeUrl>;

// Nothing: the address has no such part.
std::optional<std::string> PartOf(const Url& url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url.get(), part, &text, flags) != CURLUE_OK) return std::nullopt;
  std::string copy(text);
  curl_free(text);
  return copy;
}

// Without what may stand around it: the brackets of an address, the dot at a name's end.
std::string HostOf(const Url& url) {
  std::string host = absl::AsciiStrToLower(PartOf(url, CURLUPART_HOST).value_or(""));
  if (absl::StartsWith(host, "[") && absl::EndsWith(host, "]")) {
    host = host.substr(1, host.size() - 2);
  }
  if (absl::EndsWith(host, ".")) host.pop_back();
  return host;
}

absl::Status Refused(absl::string_view words) { return absl::InvalidArgumentError(words); }

}  // namespace

absl::StatusOr<RemoteHosts> RemoteHosts::Parse(const std::vector<std::string>& entries) {
  RemoteHosts hosts;
  for (const std::string& text : entries) {
    Entry entry;
    absl::string_view rest = text;
    if (absl::ConsumePrefix(&rest, "[")) {
      const size_t end = rest.find(']');
      if (end == rest.npos) return WrongEntry(text, "has no \"]\"");
      entry.host = std::string(rest.substr(0, end));
      rest.remove_prefix(end + 1);
    } else {
      const size_t end = std::min(rest.find(':'), rest.size());
      entry.host = std::string(rest.substr(0, end));
      rest.remove_prefix(end);
    }
    if (absl::ConsumePrefix(&rest, ":")) {
      int port = 0;
      if (!absl::SimpleAtoi(rest, &port) || port < 1 || port > 65'535) {
        return WrongEntry(text, "has no port between 1 and 65535");
      }
      entry.port = absl::StrCat(port);
    } else if (!rest.empty()) {
      return WrongEntry(text, "is no host");
    }
    absl::AsciiStrToLower(&entry.host);
    absl::string_view host = entry.host;
    entry.is_pattern = absl::ConsumePrefix(&host, "*.");
    entry.is_address = IsAddress(entry.host);
    const bool is_name = !host.empty() && host.front() != '.' && host.back() != '.' &&
                         std::all_of(host.begin(), host.end(), [](char c) {
                           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' ||
                                  c == '.' || c == '_';
                         });
    if (!is_name && !entry.is_address) return WrongEntry(text, "is no host");
    // The dot stays: "*.example.org" is not "anexample.org".
    if (entry.is_pattern) entry.host.erase(0, 1);
    hosts.entries_.push_back(std::move(entry));
  }
  return hosts;
}

absl::StatusOr<RemoteAddress> RemoteHosts::Check(absl::string_view text) const {
  if (text.size() > kMaxUrlBytes) return Refused("is too long");
  const Url url(curl_url());
  CHECK(url != nullptr);
  if (curl_url_set(url.get(), CURLUPART_URL, std::string(text).c_str(), 0) != CURLUE_OK) {
    return Refused("is no address of http or https");
  }
  const std::string scheme = PartOf(url, CURLUPART_SCHEME).value_or("");
  if (scheme != "http" && scheme != "https") return Refused("is no address of http or https");
  if (PartOf(url, CURLUPART_USER) || PartOf(url, CURLUPART_PASSWORD)) {
    return Refused("has a user's name or password in it");
  }
  const std::string host = HostOf(url);
  const std::optional<std::string> port = PartOf(url, CURLUPART_PORT, CURLU_NO_DEFAULT_PORT);
  const std::string whole_port = PartOf(url, CURLUPART_PORT, CURLU_DEFAULT_PORT).value_or("");
  bool is_listed = false, may_be_private = false;
  for (const Entry& entry : entries_) {
    const bool is_host = entry.is_pattern
                             ? absl::EndsWith(host, entry.host) && host.size() > entry.host.size()
                             : host == entry.host;
    const bool is_port = entry.port.empty() ? !port.has_value() : entry.port == whole_port;
    if (!is_host || !is_port) continue;
    is_listed = true;
    may_be_private = may_be_private || entry.is_address || !entry.port.empty();
  }
  if (!is_listed) return Refused("is of a host, or a port, that nothing is fetched from");
  // Not for the server's eyes.
  curl_url_set(url.get(), CURLUPART_FRAGMENT, nullptr, 0);
  return RemoteAddress{PartOf(url, CURLUPART_URL).value_or(""), may_be_private};
}

bool IsPublic(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, &address, sizeof(v4));
    return IsPublicV4(ip::address_v4(ntohl(v4.sin_addr.s_addr)));
  }
  if (address.sa_family == AF_INET6) {
    sockaddr_in6 v6;
    std::memcpy(&v6, &address, sizeof(v6));
    ip::address_v6::bytes_type bytes;
    std::memcpy(bytes.data(), &v6.sin6_addr, bytes.size());
    return IsPublicV6(ip::address_v6(bytes));
  }
  return false;
}

}  // namespace minicpmv::gateway
