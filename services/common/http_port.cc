#include "services/common/http_port.h"

#include <sys/socket.h>

#include <boost/asio/executor_work_guard.hpp>
#include <chrono>
#include <string>

#include "absl/strings/str_cat.h"

namespace minicpmv {

namespace asio = boost::asio;
using Tcp = asio::ip::tcp;

absl::StatusOr<std::unique_ptr<HttpPort>> HttpPort::Open(
    const ListenAddress& listen, std::function<void(Socket)> on_connection) {
  std::unique_ptr<HttpPort> port(new HttpPort(std::move(on_connection)));
  if (const boost::system::error_code error = port->Listen(listen)) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", listen.text(), ": ", error.message()));
  }
  return port;
}

void HttpPort::Run() {
  Accept();
  thread_ = std::thread([this] {
    // It goes on though nobody is connected and nothing listens any more.
    const auto work = asio::make_work_guard(loop_);
    loop_.run();
  });
}

HttpPort::~HttpPort() {
  loop_.stop();
  if (thread_.joinable()) thread_.join();
}

void HttpPort::StopListening() {
  boost::system::error_code ignored;
  acceptor_.close(ignored);
  pause_.cancel();
}

boost::system::error_code HttpPort::Listen(const ListenAddress& listen) {
  const size_t colon = listen.text().rfind(':');
  std::string host = listen.text().substr(0, colon);
  if (host.front() == '[') host = host.substr(1, host.size() - 2);
  boost::system::error_code error;
  const asio::ip::address address = asio::ip::make_address(host, error);
  if (error) return error;
  const Tcp::endpoint endpoint(address,
                               static_cast<uint16_t>(std::stoi(listen.text().substr(colon + 1))));
  acceptor_.open(endpoint.protocol(), error);
  if (error) return error;
  acceptor_.set_option(Tcp::acceptor::reuse_address(true), error);
  if (!error && listen.was_picked()) {
    acceptor_.set_option(asio::detail::socket_option::boolean<SOL_SOCKET, SO_REUSEPORT>(true),
                         error);
  }
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
  return error;
}

void HttpPort::Accept() {
  acceptor_.async_accept([this](boost::system::error_code error, Socket socket) {
    if (error == asio::error::operation_aborted || !acceptor_.is_open()) return;
    if (error) {
      // No descriptors left, for example: some may be free a little later.
      pause_.expires_after(std::chrono::milliseconds(100));
      pause_.async_wait([this](boost::system::error_code) {
        if (acceptor_.is_open()) Accept();
      });
      return;
    }
    on_connection_(std::move(socket));
    Accept();
  });
}

}  // namespace minicpmv
