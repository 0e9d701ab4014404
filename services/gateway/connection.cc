#include "services/gateway/connection.h"

#include <boost/asio/write.hpp>
#include <chrono>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "services/gateway/chat_exchange.h"
#include "services/gateway/files_exchange.h"
#include "services/gateway/form_reader.h"
#include "services/gateway/models_exchange.h"

namespace minicpmv::gateway {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

constexpr size_t kBufferBytes = 64 << 10;
constexpr size_t kPieceBytes = 64 << 10;  // of a body
// Of requests that come before the answer to the one before them.
constexpr size_t kAheadBytes = 16 << 10;
constexpr int kGone = 499;
// A body grows by a KiB a second at least.
constexpr int64_t kSlowestBytesPerSecond = 1 << 10;
// How long what a client still sends is taken, so that it gets to read why it was refused.
constexpr std::chrono::seconds kLinger(3);

absl::string_view ViewOf(beast::string_view text) { return {text.data(), text.size()}; }

absl::Time Now() { return Clock::Monotonic().Now(); }

// Several lines of one name are one list.
std::string Joined(const http::fields& fields, absl::string_view name) {
  std::string joined;
  const auto [first, last] = fields.equal_range({name.data(), name.size()});
  for (auto field = first; field != last; ++field) {
    absl::StrAppend(&joined, field == first ? "" : ",", ViewOf(field->value()));
  }
  return joined;
}

// Of the bytes, not of the network.
bool IsHttpError(beast::error_code error) {
  return error && error.category() == make_error_code(http::error::end_of_stream).category();
}

bool IsJson(absl::string_view content_type) {
  content_type = content_type.substr(0, content_type.find(';'));
  return absl::EqualsIgnoreCase(absl::StripAsciiWhitespace(content_type), "application/json");
}

}  // namespace

Connection::Connection(HttpPort::Socket socket, Ground& ground)
    : ground_(ground), stream_(std::move(socket)), buffer_(kBufferBytes) {
  Error ignored;
  stream_.socket().set_option(asio::ip::tcp::no_delay(true), ignored);
  ground_.connections.insert(this);
  ground_.metrics.SetConnections(ground_.connections.size());
}

Connection::~Connection() {
  EndRequest(kGone);
  ground_.connections.erase(this);
  ground_.metrics.SetConnections(ground_.connections.size());
}

void Connection::Drain() {
  keep_alive_ = false;
  if (state_ == State::kIdle) Close();
}

void Connection::GiveUp(const absl::Status& why) {
  if (exchange_) {
    exchange_->GiveUp(why);
  } else if (state_ != State::kSending) {
    Close();
  }
}

void Connection::Close() {
  state_ = State::kClosing;
  EndRequest(kGone);
  stream_.close();
}

void Connection::EndRequest(int status) {
  if (exchange_) {
    exchange_->Cancel();
    exchange_ = nullptr;
  }
  body_ = nullptr;
  if (!std::exchange(is_counted_, false)) return;
  ground_.metrics.SetInFlight(--ground_.requests);
  ground_.metrics.OnRequestEnd(status);
}

// --- Reading

void Connection::ReadHeader(bool is_first) {
  state_ = State::kIdle;
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(ground_.options.header_bytes));
  parser_->body_limit(static_cast<uint64_t>(ground_.options.body_bytes));
  stream_.expires_after(absl::ToChronoNanoseconds(is_first ? ground_.options.header_patience
                                                           : ground_.options.idle_patience));
  http::async_read_header(stream_, buffer_, *parser_,
                          [self = shared_from_this()](Error error, size_t) {
                            if (self->state_ == State::kIdle) self->OnHeader(error);
                          });
}

void Connection::OnHeader(Error error) {
  const auto& request = parser_->get();
  route_.reset();
  version_ = request.version() == 10 ? 10 : 11;
  is_head_ = request.method() == http::verb::head;
  request_id_ = RequestIdOf(ViewOf(request["X-Request-Id"]));
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    Refuse(HeaderTooLarge(ground_.options.header_bytes));
  } else if (error == http::error::body_limit) {
    Refuse(BodyTooLarge(ground_.options.body_bytes));
  } else if (error == http::error::end_of_stream || error == http::error::partial_message ||
             (error && !IsHttpError(error))) {
    Close();
  } else if (error) {
    Refuse(BadRequest(absl::StrCat("this is no HTTP request: ", error.message())));
  } else if (const std::optional<HttpError> wrong = CheckHeader()) {
    Refuse(*wrong);
  } else {
    ReadBody();
  }
}

std::optional<HttpError> Connection::CheckHeader() {
  const auto& request = parser_->get();
  keep_alive_ = request.keep_alive() && !ground_.is_draining;
  trace_ = ContinueTrace(Joined(request, kTraceparent), Joined(request, kTracestate));
  const absl::string_view target = ViewOf(request.target());
  route_ = RouteOf(target);
  // Whoever is not known learns nothing but that.
  if (!route_ || !route_->is_open()) {
    const bool is_one = request.count(http::field::authorization) <= 1;
    std::optional<std::string> tenant =
        is_one ? ground_.options.keys.TenantOf(ViewOf(request[http::field::authorization]))
               : std::nullopt;
    if (!tenant) return WrongKey();
    tenant_ = *std::move(tenant);
  }
  if (!route_) return NoSuchPath(target);
  if (!route_->Takes(ViewOf(request.method_string()))) return WrongMethod(route_->methods());
  if (request.method() == http::verb::post) {
    const bool is_form = route_->kind == Route::kFiles;
    const absl::string_view type = ViewOf(request[http::field::content_type]);
    if (!(is_form ? FormBoundaryOf(type).has_value() : IsJson(type)) ||
        request.count(http::field::content_encoding) > 0) {
      return WrongMediaType(is_form ? "multipart/form-data" : "application/json");
    }
    if (is_form && ground_.options.disk_bytes == 0) {
      return NoSpace("no files are kept here");
    }
    if (ground_.is_draining) return Overloaded("the gateway is shutting down");
    if (ground_.requests >= ground_.options.requests) {
      return Overloaded("the gateway has as many requests as it takes");
    }
  }
  return std::nullopt;
}

void Connection::ReadBody() {
  if (state_ != State::kReading) {
    state_ = State::kReading;
    body_begin_ = Now();
    body_ =
        std::make_shared<Body>(route_->kind == Route::kFiles ? ground_.file_room : ground_.room);
    ground_.files.DropWhatIsOver();
    is_counted_ = true;
    ground_.metrics.SetInFlight(++ground_.requests);
    if (!parser_->is_done() &&
        absl::EqualsIgnoreCase(ViewOf(parser_->get()[http::field::expect]), "100-continue")) {
      unsent_ += "HTTP/1.1 100 Continue\r\n\r\n";
      Flush();
    }
  }
  if (parser_->is_done()) {
    Answer();
    return;
  }
  const absl::Duration patience =
      ground_.options.body_patience + absl::Seconds(body_->size() / kSlowestBytesPerSecond);
  stream_.expires_after(
      absl::ToChronoNanoseconds(std::max(body_begin_ + patience - Now(), absl::ZeroDuration())));
  piece_.resize(kPieceBytes);
  parser_->get().body() = {piece_.data(), piece_.size(), /*more=*/true};
  http::async_read_some(stream_, buffer_, *parser_,
                        [self = shared_from_this()](Error error, size_t) {
                          if (self->state_ == State::kReading) self->OnBody(error);
                        });
}

void Connection::OnBody(Error error) {
  if (error == http::error::need_buffer) error = {};
  if (error == http::error::body_limit) {
    Refuse(BodyTooLarge(ground_.options.body_bytes));
  } else if (IsHttpError(error) && error != http::error::partial_message &&
             error != http::error::end_of_stream) {
    Refuse(BadRequest(absl::StrCat("the body is not as HTTP has it: ", error.message())));
  } else if (error) {
    Close();
  } else {
    piece_.resize(piece_.size() - parser_->get().body().size);
    if (body_->StaysInMemory(piece_.size())) {
      OnPieceKept(body_->Append(piece_));
      return;
    }
    asio::post(ground_.disk, [self = shared_from_this(), body = body_] {
      const absl::Status status = body->Append(self->piece_);
      asio::post(self->ground_.routers.loop, [self, status] {
        if (self->state_ == State::kReading) self->OnPieceKept(status);
      });
    });
  }
}

void Connection::OnPieceKept(const absl::Status& status) {
  if (status.ok()) {
    ReadBody();
  } else if (absl::IsResourceExhausted(status)) {
    LogWarning(absl::StrCat("a body cannot be kept in ", ground_.options.disk_folder, ": ",
                            status.message()));
    Refuse(NoSpace("there is no space for the body"));
  } else if (absl::IsUnavailable(status)) {
    Refuse(Overloaded(status.message()));
  } else {
    Refuse(HttpErrorOf(status));
  }
}

void Connection::Answer() {
  state_ = State::kAnswering;
  piece_ = std::string();
  Watch();
  switch (route_->kind) {
    case Route::kHealth:
      if (ground_.is_draining) {
        SendError(Overloaded("the gateway is shutting down"));
      } else {
        SendJson("{\"status\":\"ok\"}");
      }
      return;
    case Route::kVersion:
      SendJson(absl::StrCat("{\"version\":\"", ground_.options.version, "\"}"));
      return;
    case Route::kModels:
      exchange_ = std::make_shared<ModelsExchange>(ground_, *this, tenant_, route_->name);
      break;
    case Route::kFiles: {
      const auto& request = parser_->get();
      exchange_ = std::make_shared<FilesExchange>(
          ground_, *this, Caller{tenant_, trace_},
          FilesExchange::Request{std::string(ViewOf(request.method_string())), route_->name,
                                 std::string(ViewOf(request[http::field::content_type]))});
      break;
    }
    case Route::kChat:
      exchange_ = std::make_shared<ChatExchange>(ground_, *this, Caller{tenant_, trace_});
      break;
  }
  exchange_->Start(std::exchange(body_, nullptr));
}

void Connection::Watch() {
  if (buffer_.size() >= kAheadBytes) return;
  is_watching_ = true;
  stream_.expires_never();
  stream_.async_read_some(buffer_.prepare(kAheadBytes),
                          [self = shared_from_this()](Error error, size_t bytes) {
                            self->is_watching_ = false;
                            self->buffer_.commit(bytes);
                            const auto then = std::exchange(self->after_watching_, nullptr);
                            if (self->state_ == State::kClosing) return;
                            if (then != nullptr) {
                              (self.get()->*then)();
                            } else if (error) {
                              self->Close();
                            } else {
                              self->Watch();
                            }
                          });
}

// --- Answering

std::string Connection::HeaderOf(int status, const char* content_type, std::optional<size_t> length,
                                 std::optional<int64_t> retry_after) {
  status_ = status;
  http::response<http::empty_body> header(static_cast<http::status>(status), version_);
  header.set(http::field::content_type, content_type);
  header.set(http::field::cache_control, "no-store");
  header.set("x-request-id", request_id_);
  if (retry_after) header.set(http::field::retry_after, absl::StrCat(*retry_after));
  if (status == 401) header.set(http::field::www_authenticate, "Bearer");
  if (status == 405) header.set(http::field::allow, std::string(route_->methods()));
  if (length) {
    header.content_length(*length);
  } else if (version_ == 11) {
    header.chunked(true);
  } else {
    keep_alive_ = false;  // the end of the connection is the end of the answer
  }
  header.keep_alive(keep_alive_);
  std::ostringstream text;
  text << header.base();
  return text.str();
}

void Connection::SendWhole(int status, std::string body, std::optional<int64_t> retry_after) {
  unsent_ += HeaderOf(status, "application/json", body.size(), retry_after);
  if (!is_head_) unsent_ += body;
  state_ = State::kSending;
  Flush();
}

void Connection::Refuse(const HttpError& error) {
  if (!std::exchange(is_counted_, true)) ground_.metrics.SetInFlight(++ground_.requests);
  keep_alive_ = false;
  SendError(error);
}

void Connection::BeginEvents() {
  unsent_ += HeaderOf(200, "text/event-stream; charset=utf-8", std::nullopt, std::nullopt);
}

void Connection::SendEvents(std::string events) {
  if (version_ == 11) {
    absl::StrAppend(&unsent_, absl::Hex(events.size()), "\r\n", events, "\r\n");
  } else {
    unsent_ += events;
  }
  Flush();
}

void Connection::EndEvents() {
  if (version_ == 11) unsent_ += "0\r\n\r\n";
  state_ = State::kSending;
  Flush();
}

void Connection::Flush() {
  if (is_writing_) return;
  if (unsent_.empty()) {
    if (state_ == State::kSending) OnAnswered();
    return;
  }
  is_writing_ = true;
  sending_ = std::exchange(unsent_, "");
  if (state_ != State::kReading) {
    stream_.expires_after(absl::ToChronoNanoseconds(ground_.options.send_patience));
  }
  asio::async_write(stream_, asio::buffer(sending_),
                    [self = shared_from_this()](Error error, size_t) { self->OnSent(error); });
}

void Connection::OnSent(Error error) {
  is_writing_ = false;
  if (state_ == State::kClosing) return;
  if (error) {
    Close();
    return;
  }
  if (exchange_ && state_ == State::kAnswering && unsent_.empty()) exchange_->OnSent();
  Flush();
}

void Connection::OnAnswered() {
  EndRequest(status_);
  const bool is_last = !keep_alive_ || ground_.is_draining;
  state_ = is_last ? State::kLingering : State::kIdle;
  StopWatching(is_last ? &Connection::Linger : &Connection::ReadNextHeader);
}

void Connection::StopWatching(void (Connection::*then)()) {
  if (!is_watching_) {
    (this->*then)();
    return;
  }
  after_watching_ = then;
  stream_.cancel();
}

// --- Hanging up

void Connection::Linger() {
  Error ignored;
  stream_.socket().shutdown(HttpPort::Socket::shutdown_send, ignored);
  stream_.expires_after(kLinger);
  Discard();
}

void Connection::Discard() {
  buffer_.clear();
  stream_.async_read_some(buffer_.prepare(kAheadBytes),
                          [self = shared_from_this()](Error error, size_t) {
                            if (error) {
                              self->Close();
                            } else {
                              self->Discard();
                            }
                          });
}

}  // namespace minicpmv::gateway
