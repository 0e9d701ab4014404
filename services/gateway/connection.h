#pragma once

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <memory>
#include <optional>
#include <string>

#include "runtime/base/trace_context.h"
#include "services/common/http_port.h"
#include "services/gateway/exchange.h"
#include "services/gateway/ground.h"
#include "services/gateway/route.h"

namespace minicpmv::gateway {

// One client: its requests one after the other, in the order in which they came, whether it waits
// for answers or not. The loop's. Keeps itself alive by what it waits for.
class Connection final : public Answering, public std::enable_shared_from_this<Connection> {
 public:
  Connection(HttpPort::Socket socket, Ground& ground);
  ~Connection() override;

  void Start() { ReadHeader(/*is_first=*/true); }
  // Ends after the answer that is being given, or at once where there is none.
  void Drain();
  // Gives the request up, and tells the client so where it has an answer to wait for.
  void GiveUp(const absl::Status& why);
  // Gives the request up and hangs up.
  void Close();

  void SendJson(std::string body) override { SendWhole(200, std::move(body), std::nullopt); }
  void SendError(const HttpError& error) override {
    SendWhole(error.status, error.Body(), error.retry_after);
  }
  void BeginEvents() override;
  void SendEvents(std::string events) override;
  void EndEvents() override;
  bool is_sending() const override { return is_writing_; }

 private:
  using Error = boost::beast::error_code;
  using Parser = boost::beast::http::request_parser<boost::beast::http::buffer_body>;
  enum class State {
    kIdle,       // waiting for a header
    kReading,    // a body
    kAnswering,  // an exchange has it
    kSending,    // what is left of an answer
    kLingering,  // nothing is sent any more
    kClosing     // nor read
  };

  void ReadHeader(bool is_first);
  void OnHeader(Error error);
  // What is wrong with a request whose body has not been read.
  std::optional<HttpError> CheckHeader();
  void ReadBody();
  void OnBody(Error error);
  void OnPieceKept(const absl::Status& status);
  void Answer();
  // An answer to a request that was not read to its end: the last one.
  void Refuse(const HttpError& error);

  void SendWhole(int status, std::string body, std::optional<int64_t> retry_after);
  std::string HeaderOf(int status, const char* content_type, std::optional<size_t> length,
                       std::optional<int64_t> retry_after);
  void Flush();
  void OnSent(Error error);
  void OnAnswered();

  // Reads ahead while a request is being answered, so as to notice a client that hangs up.
  void Watch();
  // Calls it when nothing is being read any more.
  void StopWatching(void (Connection::*then)());
  void ReadNextHeader() { ReadHeader(/*is_first=*/false); }
  void Linger();
  void Discard();
  // The request is over. `status`: of the answer, 499: there was none.
  void EndRequest(int status);

  Ground& ground_;
  boost::beast::tcp_stream stream_;
  boost::beast::flat_buffer buffer_;
  State state_ = State::kIdle;

  // The present request.
  std::optional<Parser> parser_;
  std::optional<Route> route_;
  std::string tenant_, request_id_;
  TraceContext trace_;
  int version_ = 11;
  bool is_head_ = false, keep_alive_ = true;
  bool is_counted_ = false;  // among the ground's requests
  std::shared_ptr<Body> body_;
  std::string piece_;  // of the body, as it comes
  absl::Time body_begin_;
  std::shared_ptr<Exchange> exchange_;
  int status_ = 0;

  bool is_watching_ = false;
  void (Connection::*after_watching_)() = nullptr;
  std::string unsent_, sending_;
  bool is_writing_ = false;
};

}  // namespace minicpmv::gateway
