#include "services/common/admin_server.h"

#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/check.h"

namespace minicpmv {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Tcp = asio::ip::tcp;
using Request = http::request<http::empty_body>;
using Response = http::response<http::string_body>;

Response Answer(const AdminPages& pages, const Request& request) {
  Response response(http::status::ok, request.version());
  response.keep_alive(request.keep_alive());
  response.set(http::field::content_type, "text/plain; charset=utf-8");
  response.set(http::field::cache_control, "no-store");
  absl::string_view target(request.target().data(), request.target().size());
  target = target.substr(0, target.find('?'));
  const bool is_head = request.method() == http::verb::head;
  if (!is_head && request.method() != http::verb::get) {
    response.result(http::status::method_not_allowed);
    response.set(http::field::allow, "GET, HEAD");
    response.body() = "only GET and HEAD\n";
  } else if (target == "/metrics") {
    response.set(http::field::content_type, "text/plain; version=0.0.4; charset=utf-8");
    response.body() = pages.metrics();
  } else if (target == "/healthz") {
    response.body() = "ok\n";
  } else if (target == "/readyz") {
    const bool is_ready = pages.is_ready();
    response.result(is_ready ? http::status::ok : http::status::service_unavailable);
    response.body() = is_ready ? "ready\n" : "not ready\n";
  } else if (target == "/version") {
    response.body() = absl::StrCat(pages.version, "\n");
  } else {
    response.result(http::status::not_found);
    response.body() = "there are /metrics, /healthz, /readyz and /version\n";
  }
  response.prepare_payload();
  if (is_head) response.body().clear();
  return response;
}

// One client. Keeps itself alive by what it waits for.
class Connection final : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Tcp::socket socket, const AdminPages& pages, const AdminServer::Limits& limits,
             int& count)
      : stream_(std::move(socket)), pages_(pages), limits_(limits), count_(count) {
    ++count_;
  }
  ~Connection() { --count_; }

  void Read() {
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(limits_.header_bytes));
    parser_->body_limit(0);
    stream_.expires_after(absl::ToChronoNanoseconds(limits_.patience));
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](beast::error_code error, size_t) {
                       if (!error) self->Write();
                     });
  }

 private:
  void Write() {
    response_ = Answer(pages_, parser_->get());
    stream_.expires_after(absl::ToChronoNanoseconds(limits_.patience));
    http::async_write(stream_, response_,
                      [self = shared_from_this()](beast::error_code error, size_t) {
                        if (error) return;
                        if (self->response_.keep_alive()) {
                          self->Read();
                        } else {
                          self->stream_.socket().shutdown(Tcp::socket::shutdown_send, error);
                        }
                      });
  }

  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::empty_body>> parser_;
  Response response_;
  const AdminPages& pages_;
  const AdminServer::Limits& limits_;
  int& count_;
};

}  // namespace

class AdminServer::Port {
 public:
  Port(AdminPages pages, const Limits& limits) : pages_(std::move(pages)), limits_(limits) {}
  ~Port() {
    loop_.stop();
    if (thread_.joinable()) thread_.join();
  }

  beast::error_code Listen(const ListenAddress& listen) {
    const size_t colon = listen.text().rfind(':');
    std::string host = listen.text().substr(0, colon);
    if (host.front() == '[') host = host.substr(1, host.size() - 2);
    beast::error_code error;
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
    if (error) return error;
    Accept();
    thread_ = std::thread([this] { loop_.run(); });
    return error;
  }

 private:
  void Accept() {
    acceptor_.async_accept([this](beast::error_code error, Tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (error) {
        // No descriptors left, for example: some may be free a little later.
        pause_.expires_after(std::chrono::milliseconds(100));
        pause_.async_wait([this](beast::error_code) { Accept(); });
        return;
      }
      if (connections_ < limits_.connections) {
        std::make_shared<Connection>(std::move(socket), pages_, limits_, connections_)->Read();
      }
      Accept();
    });
  }

  const AdminPages pages_;
  const Limits limits_;
  int connections_ = 0;  // the loop's, and outlives what waits in it
  asio::io_context loop_{1};
  Tcp::acceptor acceptor_{loop_};
  asio::steady_timer pause_{loop_};
  std::thread thread_;
};

AdminServer::~AdminServer() = default;

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(const ListenAddress& listen,
                                                                AdminPages pages,
                                                                const Limits& limits) {
  std::unique_ptr<AdminServer> server(new AdminServer);
  server->address_ = listen.text();
  server->port_ = std::make_unique<Port>(std::move(pages), limits);
  if (const beast::error_code error = server->port_->Listen(listen)) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", listen.text(), ": ", error.message()));
  }
  return server;
}

}  // namespace minicpmv
