#include "tests/services/common/link_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace minicpmv {
namespace {

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

bool WriteAll(int socket, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t written = send(socket, data, size, MSG_NOSIGNAL);
    if (written <= 0) return false;
    data += written;
    size -= static_cast<size_t>(written);
  }
  return true;
}

}  // namespace

LinkProxy::LinkProxy(const std::string& target) : target_(target) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK_GE(listener_, 0);
  sockaddr_in address = Loopback(0);
  CHECK_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  CHECK_EQ(listen(listener_, 16), 0);
  socklen_t length = sizeof(address);
  CHECK_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length), 0);
  port_ = ntohs(address.sin_port);
  accepting_ = std::thread([this] { Accept(); });
}

LinkProxy::~LinkProxy() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_ending_ = true;
    CutLocked();
  }
  thawed_.notify_all();
  shutdown(listener_, SHUT_RDWR);
  accepting_.join();
  for (std::thread& thread : threads_) thread.join();
  for (const int socket : sockets_) close(socket);
  close(listener_);
}

std::string LinkProxy::address() const { return absl::StrCat("127.0.0.1:", port_); }

void LinkProxy::CorruptOnce(const std::string& pattern) {
  const std::lock_guard<std::mutex> lock(mutex_);
  spoil_ = Spoil::kCorrupt;
  pattern_ = pattern;
}

void LinkProxy::CutOnce(const std::string& pattern) {
  const std::lock_guard<std::mutex> lock(mutex_);
  spoil_ = Spoil::kCut;
  pattern_ = pattern;
}

void LinkProxy::Freeze() {
  const std::lock_guard<std::mutex> lock(mutex_);
  is_frozen_ = true;
}

void LinkProxy::Thaw() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_frozen_ = false;
  }
  thawed_.notify_all();
}

void LinkProxy::Cut() {
  const std::lock_guard<std::mutex> lock(mutex_);
  CutLocked();
}

void LinkProxy::CutLocked() {
  // Numbers stay taken until the end: a thread may be about to use one.
  for (const int socket : sockets_) shutdown(socket, SHUT_RDWR);
}

void LinkProxy::Accept() {
  int port;
  CHECK(absl::SimpleAtoi(absl::string_view(target_).substr(target_.rfind(':') + 1), &port));
  while (true) {
    const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) return;
    const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_GE(server, 0);
    const sockaddr_in address = Loopback(port);
    const bool is_connected =
        connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
    const int yes = 1;
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    const std::lock_guard<std::mutex> lock(mutex_);
    sockets_.push_back(client);
    sockets_.push_back(server);
    if (!is_connected || is_ending_) {
      shutdown(client, SHUT_RDWR);
      continue;
    }
    threads_.emplace_back([this, client, server] { Forward(client, server, true); });
    threads_.emplace_back([this, client, server] { Forward(server, client, false); });
  }
}

void LinkProxy::Forward(int from, int to, bool is_to_server) {
  std::vector<char> buffer(64 << 10);
  while (true) {
    const ssize_t count = recv(from, buffer.data(), buffer.size(), 0);
    std::unique_lock<std::mutex> lock(mutex_);
    thawed_.wait(lock, [&] { return !is_frozen_ || is_ending_; });
    if (count <= 0 || is_ending_) break;
    size_t size = static_cast<size_t>(count);
    const Spoil spoil = is_to_server ? spoil_ : Spoil::kNothing;
    if (spoil != Spoil::kNothing) {
      const size_t at = absl::string_view(buffer.data(), size).find(pattern_);
      if (at != absl::string_view::npos) {
        const size_t middle = at + pattern_.size() / 2;
        spoil_ = Spoil::kNothing;
        if (spoil == Spoil::kCorrupt) {
          buffer[middle] = static_cast<char>(buffer[middle] ^ 0x10);
        } else {
          lock.unlock();
          WriteAll(to, buffer.data(), middle);
          Cut();
          return;
        }
      }
    }
    lock.unlock();
    if (!WriteAll(to, buffer.data(), size)) break;
  }
  shutdown(from, SHUT_RDWR);
  shutdown(to, SHUT_RDWR);
}

}  // namespace minicpmv
