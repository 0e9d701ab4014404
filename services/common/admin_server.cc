#include "services/common/admin_server.h"

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/status_macros.h"
#include "services/common/http_port.h"

namespace minicpmv {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;
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
  Connection(HttpPort::Socket socket, const AdminPages& pages, const AdminServer::Limits& limits,
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
                          self->stream_.socket().shutdown(HttpPort::Socket::shutdown_send, error);
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

  absl::Status Start(const ListenAddress& listen) {
    ASSIGN_OR_RETURN(
        port_, HttpPort::Open(listen, [this](HttpPort::Socket socket) {
          if (connections_ < limits_.connections) {
            std::make_shared<Connection>(std::move(socket), pages_, limits_, connections_)->Read();
          }
        }));
    port_->Run();
    return absl::OkStatus();
  }

 private:
  const AdminPages pages_;
  const Limits limits_;
  int connections_ = 0;  // the loop's, and outlives what waits in it
  std::unique_ptr<HttpPort> port_;
};

AdminServer::~AdminServer() = default;

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(const ListenAddress& listen,
                                                                AdminPages pages,
                                                                const Limits& limits) {
  std::unique_ptr<AdminServer> server(new AdminServer);
  server->address_ = listen.text();
  server->port_ = std::make_unique<Port>(std::move(pages), limits);
  RETURN_IF_ERROR(server->port_->Start(listen));
  return server;
}

}  // namespace minicpmv
