#include "services/gateway/fetcher.h"

#include <curl/curl.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/clock.h"

namespace minicpmv::gateway {
namespace {

constexpr int kPollMilliseconds = 1000;
constexpr long kFirstRedirect = 300, kPastRedirects = 400;

absl::Time Now() { return Clock::Monotonic().Now(); }

absl::Status Refused(absl::string_view words) { return absl::InvalidArgumentError(words); }

absl::Status NoRoom() { return absl::UnavailableError("there is no room for more pictures"); }

// libcurl's own words are for whoever runs this, and name hosts.
absl::Status StatusOf(CURLcode result) {
  switch (result) {
    case CURLE_OPERATION_TIMEDOUT:
      return Refused("does not come in time");
    case CURLE_COULDNT_RESOLVE_HOST:
      return Refused("is of a host that cannot be found");
    case CURLE_PEER_FAILED_VERIFICATION:
      return Refused("is of a server whose certificate is not trusted");
    default:
      return Refused("cannot be fetched: its server cannot be reached, or breaks off");
  }
}

}  // namespace

class Fetcher::Transfer {
 public:
  Transfer(Number number, std::string url, Done done, const FetchLimits& limits, Allowance& memory)
      : number_(number),
        url_(std::move(url)),
        done_(std::move(done)),
        limits_(limits),
        end_(Now() + limits.patience),
        read_{"", Allowance::Share(memory)} {}
  ~Transfer() { curl_easy_cleanup(easy_); }
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  Number number() const { return number_; }
  const std::string& url() const { return url_; }
  CURL* easy() const { return easy_; }

  // Makes the request that is next.
  absl::Status Prepare(const RemoteHosts& hosts) {
    absl::StatusOr<RemoteAddress> address = hosts.Check(url_);
    if (!address.ok()) return address.status();
    const absl::Duration left = end_ - Now();
    if (left < absl::Milliseconds(1)) return StatusOf(CURLE_OPERATION_TIMEDOUT);
    may_be_private_ = address->may_be_private;
    if (easy_ == nullptr) easy_ = curl_easy_init();
    CHECK(easy_ != nullptr);
    curl_easy_reset(easy_);
    Set(CURLOPT_URL, address->url.c_str());
    Set(CURLOPT_PRIVATE, this);
    Set(CURLOPT_PROTOCOLS_STR, "http,https");
    Set(CURLOPT_FOLLOWLOCATION, 0L);  // each is checked first
    Set(CURLOPT_PROXY, "");           // whatever the environment says
    Set(CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
    Set(CURLOPT_NOSIGNAL, 1L);
    Set(CURLOPT_QUICK_EXIT, 1L);    // a name that is still looked up holds nobody up
    Set(CURLOPT_FORBID_REUSE, 1L);  // every connection's address is looked at
    Set(CURLOPT_USERAGENT, "minicpmv");
    Set(CURLOPT_TIMEOUT_MS, static_cast<long>(absl::ToInt64Milliseconds(left)));
    Set(CURLOPT_MAXFILESIZE_LARGE, static_cast<curl_off_t>(limits_.bytes));
    Set(CURLOPT_OPENSOCKETFUNCTION, &Transfer::OpenSocket);
    Set(CURLOPT_OPENSOCKETDATA, this);
    Set(CURLOPT_WRITEFUNCTION, &Transfer::Write);
    Set(CURLOPT_WRITEDATA, this);
    return absl::OkStatus();
  }

  // Goes on with another address; false: it has been sent on often enough.
  bool Redirect(const char* url) {
    if (redirects_++ == limits_.redirects) return false;
    url_ = url;
    read_.bytes.clear();
    return true;
  }

  absl::Status StatusAfter(CURLcode result) const {
    if (!failure_.ok()) return failure_;
    if (result == CURLE_FILESIZE_EXCEEDED) return TooLarge();
    if (result != CURLE_OK) return StatusOf(result);
    long code = 0;
    curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &code);
    if (code != 200) return Refused(absl::StrCat("is answered with HTTP status ", code));
    return read_.bytes.empty() ? Refused("is empty") : absl::OkStatus();
  }

  void Tell(const absl::Status& status) {
    if (status.ok()) {
      done_(std::move(read_));
    } else {
      done_(status);
    }
  }

 private:
  template <typename Value>
  void Set(CURLoption option, Value value) {
    CHECK_EQ(curl_easy_setopt(easy_, option, value), CURLE_OK) << option;
  }

  absl::Status TooLarge() const {
    return Refused(absl::StrCat("has more than ", limits_.bytes, " bytes"));
  }

  static curl_socket_t OpenSocket(void* self, curlsocktype, curl_sockaddr* address) {
    auto& transfer = *static_cast<Transfer*>(self);
    if (!transfer.may_be_private_ && !IsPublic(address->addr)) {
      transfer.failure_ = Refused("is of a host in a private network");
      return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  }

  static size_t Write(char* data, size_t, size_t bytes, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    const auto count = static_cast<int64_t>(bytes);
    // Of an answer that is none of a picture nothing is kept.
    long code = 0;
    curl_easy_getinfo(transfer.easy_, CURLINFO_RESPONSE_CODE, &code);
    if (code != 200) return bytes;
    if (count > transfer.limits_.bytes - static_cast<int64_t>(transfer.read_.bytes.size())) {
      transfer.failure_ = transfer.TooLarge();
      return 0;
    }
    if (!transfer.read_.share.Grow(count)) {
      transfer.failure_ = NoRoom();
      return 0;
    }
    transfer.read_.bytes.append(data, bytes);
    return bytes;
  }

  const Number number_;
  std::string url_;
  const Done done_;
  const FetchLimits& limits_;
  const absl::Time end_;
  CountedBytes read_;
  CURL* easy_ = nullptr;
  bool may_be_private_ = false;
  int redirects_ = 0;
  absl::Status failure_;  // ours, beside which libcurl's does not matter
};

Fetcher::Fetcher(const RemoteHosts& hosts, const FetchLimits& limits, Allowance& memory)
    : hosts_(hosts), limits_(limits), memory_(memory), multi_([] {
        CHECK_EQ(curl_global_init(CURL_GLOBAL_DEFAULT), CURLE_OK);
        return curl_multi_init();
      }()) {
  CHECK(multi_ != nullptr);
  thread_ = std::thread([this] { Run(); });
}

Fetcher::~Fetcher() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_ending_ = true;
  }
  curl_multi_wakeup(multi_);
  thread_.join();
  curl_multi_cleanup(multi_);
  curl_global_cleanup();
}

Fetcher::Number Fetcher::Start(std::string url, Done done) {
  Number number;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    number = ++last_;
    ordered_.emplace(number, std::make_unique<Transfer>(number, std::move(url), std::move(done),
                                                        limits_, memory_));
  }
  curl_multi_wakeup(multi_);
  return number;
}

void Fetcher::Cancel(Number number) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    cancelled_.push_back(number);
  }
  curl_multi_wakeup(multi_);
}

void Fetcher::Run() {
  while (TakeOrders()) {
    int running = 0;
    curl_multi_perform(multi_, &running);
    TakeAnswers();
    BeginWaiting();
    curl_multi_poll(multi_, nullptr, 0, kPollMilliseconds, nullptr);
  }
  while (!transfers_.empty()) End(transfers_.begin()->first, absl::CancelledError("it ends here"));
}

bool Fetcher::TakeOrders() {
  std::vector<Number> cancelled;
  bool is_ending;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [number, transfer] : ordered_) waiting_.push_back(number);
    transfers_.merge(ordered_);
    cancelled.swap(cancelled_);
    is_ending = is_ending_;
  }
  for (const Number number : cancelled) End(number, absl::CancelledError("nobody waits for it"));
  while (waiting_.size() > limits_.waiting) End(waiting_.back(), NoRoom());
  return !is_ending;
}

void Fetcher::BeginWaiting() {
  while (!waiting_.empty() && under_way_ < limits_.at_once) {
    Transfer& transfer = *transfers_.at(waiting_.front());
    const absl::Status status = transfer.Prepare(hosts_);
    if (!status.ok()) {
      End(transfer.number(), status);
      continue;
    }
    waiting_.pop_front();
    ++under_way_;
    curl_multi_add_handle(multi_, transfer.easy());
  }
}

void Fetcher::TakeAnswers() {
  int left = 0;
  while (const CURLMsg* const message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    Transfer* transfer = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
    OnAnswer(*transfer, message->data.result);
  }
}

void Fetcher::OnAnswer(Transfer& transfer, int result) {
  const auto code = static_cast<CURLcode>(result);
  char* next = nullptr;
  long answer = 0;
  curl_easy_getinfo(transfer.easy(), CURLINFO_RESPONSE_CODE, &answer);
  curl_easy_getinfo(transfer.easy(), CURLINFO_REDIRECT_URL, &next);
  const bool is_redirect =
      code == CURLE_OK && next != nullptr && answer >= kFirstRedirect && answer < kPastRedirects;
  if (!is_redirect) {
    End(transfer.number(), transfer.StatusAfter(code));
    return;
  }
  if (!transfer.Redirect(next)) {
    End(transfer.number(), Refused("leads from one address to the next"));
    return;
  }
  curl_multi_remove_handle(multi_, transfer.easy());
  const absl::Status status = transfer.Prepare(hosts_);
  if (status.ok()) {
    curl_multi_add_handle(multi_, transfer.easy());
  } else {
    End(transfer.number(), Refused(absl::StrCat("leads to an address that ", status.message())));
  }
}

void Fetcher::End(Number number, const absl::Status& status) {
  const auto place = transfers_.find(number);
  if (place == transfers_.end()) return;
  const std::unique_ptr<Transfer> transfer = std::move(place->second);
  transfers_.erase(place);
  const auto waits = std::find(waiting_.begin(), waiting_.end(), number);
  if (waits != waiting_.end()) {
    waiting_.erase(waits);
  } else {
    curl_multi_remove_handle(multi_, transfer->easy());
    --under_way_;
  }
  transfer->Tell(status);
}

}  // namespace minicpmv::gateway
