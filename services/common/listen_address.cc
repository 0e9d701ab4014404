#include "services/common/listen_address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "runtime/base/quoted.h"

namespace minicpmv {
namespace {

struct AddressInfoEnd {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};

bool IsLoopback(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    const auto& four = reinterpret_cast<const sockaddr_in&>(address);
    return ntohl(four.sin_addr.s_addr) >> 24 == 127;
  }
  return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
}

bool IsWildcard(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    return reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr == htonl(INADDR_ANY);
  }
  return IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
}

uint16_t PortOf(const sockaddr_storage& address) {
  return ntohs(address.ss_family == AF_INET
                   ? reinterpret_cast<const sockaddr_in&>(address).sin_port
                   : reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
}

absl::Status Failed(absl::string_view listen, int error) {
  return absl::UnavailableError(
      absl::StrCat("cannot listen on ", Quoted(listen), ": ", std::strerror(error)));
}

}  // namespace

absl::StatusOr<ListenAddress> ListenAddress::Reserve(absl::string_view listen) {
  const size_t colon = listen.rfind(':');
  int port = -1;
  if (colon == absl::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(listen.substr(colon + 1), &port) || port < 0 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(listen), " is no address to listen on, as 127.0.0.1:50070"));
  }
  std::string host(listen.substr(0, colon));
  if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);

  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* raw = nullptr;
  const int trouble = getaddrinfo(host.c_str(), nullptr, &hints, &raw);
  const std::unique_ptr<addrinfo, AddressInfoEnd> list(raw);
  if (trouble != 0 || raw == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", Quoted(listen), ": there is no host ", Quoted(host)));
  }
  // "localhost" may have both kinds: the older one is what everybody tries.
  const addrinfo* chosen = nullptr;
  for (const addrinfo* info = raw; info != nullptr; info = info->ai_next) {
    if (info->ai_family != AF_INET && info->ai_family != AF_INET6) continue;
    if (chosen == nullptr || (info->ai_family == AF_INET && chosen->ai_family == AF_INET6)) {
      chosen = info;
    }
  }
  if (chosen == nullptr) return Failed(listen, EAFNOSUPPORT);

  ListenAddress address;
  address.is_loopback_ = IsLoopback(*chosen->ai_addr);
  address.is_wildcard_ = IsWildcard(*chosen->ai_addr);
  if (port == 0) {
    address.socket_ = socket(chosen->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (address.socket_ < 0) return Failed(listen, errno);
    // Who listens next sets the same option, and only a socket that listens gets connections.
    const int on = 1;
    sockaddr_storage bound = {};
    socklen_t size = sizeof(bound);
    if (setsockopt(address.socket_, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0 ||
        bind(address.socket_, chosen->ai_addr, chosen->ai_addrlen) != 0 ||
        getsockname(address.socket_, reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
      return Failed(listen, errno);
    }
    port = PortOf(bound);
  }
  char text[INET6_ADDRSTRLEN] = "";
  if (getnameinfo(chosen->ai_addr, chosen->ai_addrlen, text, sizeof(text), nullptr, 0,
                  NI_NUMERICHOST) != 0) {
    return Failed(listen, EINVAL);
  }
  address.text_ = chosen->ai_family == AF_INET6 ? absl::StrCat("[", text, "]:", port)
                                                : absl::StrCat(text, ":", port);
  return address;
}

ListenAddress::ListenAddress(ListenAddress&& other) noexcept { *this = std::move(other); }

ListenAddress& ListenAddress::operator=(ListenAddress&& other) noexcept {
  text_.swap(other.text_);
  std::swap(is_loopback_, other.is_loopback_);
  std::swap(is_wildcard_, other.is_wildcard_);
  std::swap(socket_, other.socket_);
  return *this;
}

ListenAddress::~ListenAddress() {
  if (socket_ >= 0) close(socket_);
}

std::string DialableOf(absl::string_view address) {
  if (absl::ConsumePrefix(&address, "0.0.0.0:")) return absl::StrCat("127.0.0.1:", address);
  if (absl::ConsumePrefix(&address, "[::]:")) return absl::StrCat("[::1]:", address);
  return std::string(address);
}

}  // namespace minicpmv
