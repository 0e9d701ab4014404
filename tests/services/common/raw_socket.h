#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <utility>

namespace minicpmv {

// A TCP connection to "127.0.0.1:port", byte by byte.
class RawSocket {
 public:
  explicit RawSocket(const std::string& address) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(std::atoi(address.c_str() + address.rfind(':') + 1)));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    is_connected_ = connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0;
  }
  RawSocket(RawSocket&& other) noexcept
      : socket_(std::exchange(other.socket_, -1)), is_connected_(other.is_connected_) {}
  ~RawSocket() {
    if (socket_ >= 0) close(socket_);
  }

  bool is_connected() const { return is_connected_; }
  bool Send(const std::string& bytes) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t now = send(socket_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (now <= 0) return false;
      sent += static_cast<size_t>(now);
    }
    return true;
  }
  // All that comes before the other side closes, or `end` is found, or 20 s have passed.
  std::string Receive(const std::string& end = "") {
    std::string bytes;
    char piece[4096];
    while (end.empty() || bytes.find(end) == std::string::npos) {
      pollfd waiting = {socket_, POLLIN, 0};
      if (poll(&waiting, 1, 20'000) != 1) {
        bytes += "<timeout>";
        break;
      }
      const ssize_t now = recv(socket_, piece, sizeof(piece), 0);
      if (now <= 0) break;
      bytes.append(piece, static_cast<size_t>(now));
    }
    return bytes;
  }

 private:
  int socket_;
  bool is_connected_ = false;
};

}  // namespace minicpmv
