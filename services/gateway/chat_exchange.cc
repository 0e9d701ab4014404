#include "services/gateway/chat_exchange.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/clock.h"
#include "runtime/base/status_macros.h"
#include "runtime/base/tracing.h"
#include "services/common/status_proto.h"

namespace minicpmv::gateway {
namespace {

bool IsRemote(const PictureReference& reference) { return reference.is_remote; }

}  // namespace

ChatExchange::ChatExchange(Ground& ground, Answering& answering, Caller caller)
    : ground_(ground),
      answering_(&answering),
      caller_(std::move(caller)),
      arrival_(Clock::Monotonic().Now()),
      work_{"", caller_.trace} {
  names_.created = absl::ToUnixSeconds(absl::Now());
}

ChatExchange::~ChatExchange() {
  TraceWork(TraceRow::kRequest, "chat completion", arrival_, kNow, work_);
}

absl::StatusOr<ChatExchange::Read> ChatExchange::ReadBody(Body& body) {
  Read read;
  {
    ASSIGN_OR_RETURN(CountedBytes bytes, std::move(body).Take());
    ASSIGN_OR_RETURN(read.request, ReadChatRequest(bytes.bytes, ground_.options.remote_hosts));
    read.shares.push_back(std::move(bytes.share));
  }
  RETURN_IF_ERROR(LoadFiles(read));
  const std::vector<PictureReference>& references = read.request.references;
  if (std::none_of(references.begin(), references.end(), IsRemote)) Complete(read);
  return read;
}

absl::Status ChatExchange::LoadFiles(Read& read) {
  for (const PictureReference& reference : read.request.references) {
    if (reference.is_remote) continue;
    const FileStore::File file = ground_.files.Find(caller_.tenant, reference.name);
    if (file == nullptr) {
      return WithField(absl::NotFoundError(absl::StrCat(
                           reference.field, " names a file that is not, or no longer, here")),
                       reference.field);
    }
    ASSIGN_OR_RETURN(CountedBytes bytes, file->body->Read(file->offset, file->size));
    Add(reference, std::move(bytes), read);
  }
  return absl::OkStatus();
}

void ChatExchange::Add(const PictureReference& reference, CountedBytes bytes, Read& read) {
  chat::v1::Message& message =
      *read.request.reply.mutable_conversation()->mutable_messages(reference.message);
  message.mutable_parts(reference.part)->mutable_media()->set_inline_(std::move(bytes.bytes));
  read.shares.push_back(std::move(bytes.share));
}

void ChatExchange::Complete(Read& read) {
  read.progress = std::make_unique<sdk::ReplyProgress>(std::move(read.request.reply));
}

void ChatExchange::Start(std::shared_ptr<Body> body) {
  // Base64 and digests of pictures take long enough for others to notice.
  boost::asio::post(ground_.readers, [self = shared_from_this(), body = std::move(body)] {
    auto read = std::make_shared<absl::StatusOr<Read>>(self->ReadBody(*body));
    boost::asio::post(self->ground_.routers.loop, [self, read] { self->OnRead(std::move(*read)); });
  });
}

void ChatExchange::OnRead(absl::StatusOr<Read> read) {
  if (answering_ == nullptr) return;
  if (!read.ok()) {
    std::exchange(answering_, nullptr)->SendError(HttpErrorOf(read.status()));
    return;
  }
  is_stream_ = read->request.stream;
  chunks_ = ChunkWriter(read->request.include_usage);
  if (read->progress == nullptr) {
    Fetch(std::make_shared<Read>(*std::move(read)));
  } else {
    Ask(*read);
  }
}

void ChatExchange::Fetch(std::shared_ptr<Read> read) {
  std::vector<PictureReference> remote;
  std::copy_if(read->request.references.begin(), read->request.references.end(),
               std::back_inserter(remote), IsRemote);
  auto complete = [self = shared_from_this(), read, remote](std::vector<CountedBytes> pictures) {
    for (size_t i = 0; i < remote.size(); ++i) Add(remote[i], std::move(pictures[i]), *read);
    Complete(*read);
    boost::asio::post(self->ground_.routers.loop, [self, read] { self->Ask(*read); });
  };
  pictures_ = std::make_shared<RemotePictures>(
      ground_, std::move(remote),
      [self = shared_from_this(),
       complete](absl::StatusOr<std::vector<CountedBytes>> pictures) mutable {
        self->pictures_ = nullptr;
        if (!pictures.ok()) {
          std::exchange(self->answering_, nullptr)->SendError(HttpErrorOf(pictures.status()));
          return;
        }
        boost::asio::post(self->ground_.readers,
                          [complete, pictures = *std::move(pictures)]() mutable {
                            complete(std::move(pictures));
                          });
      });
  pictures_->Start();
}

void ChatExchange::Ask(Read& read) {
  if (answering_ == nullptr) return;
  shares_ = std::move(read.shares);
  call_ = std::make_shared<ReplyCall>(
      ground_.routers, std::move(read.progress), caller_,
      ReplyCall::Receiver{
          [self = shared_from_this()](const ReplyCall::Event& event) { self->OnEvent(event); },
          [self = shared_from_this()](const absl::Status& status) { self->OnEnd(status); }});
  call_->Start();
}

void ChatExchange::Cancel() {
  answering_ = nullptr;
  if (pictures_) std::exchange(pictures_, nullptr)->Cancel();
  if (call_) call_->Cancel(absl::CancelledError("the client has gone"));
}

void ChatExchange::GiveUp(const absl::Status& why) {
  if (answering_ == nullptr) return;
  if (call_) {
    call_->Cancel(why);
  } else {
    if (pictures_) std::exchange(pictures_, nullptr)->Cancel();
    std::exchange(answering_, nullptr)->SendError(HttpErrorOf(why));
  }
}

void ChatExchange::OnEvent(const ReplyCall::Event& event) {
  if (answering_ == nullptr) return;
  if (event.has_start()) {
    work_.request_id = event.start().request_id();
    names_.id = absl::StrCat("chatcmpl-", work_.request_id);
    names_.model = event.start().model();
  } else if (event.has_text()) {
    text_ += event.text().text();
    // What the client has not taken yet is joined by what comes next.
    if (is_stream_ && !answering_->is_sending()) SendText();
  } else if (event.has_ending()) {
    ending_ = event.ending();
  }
}

void ChatExchange::OnSent() {
  if (answering_ != nullptr && is_stream_) SendText();
}

void ChatExchange::BeginEvents() {
  if (std::exchange(has_begun_, true)) return;
  answering_->BeginEvents();
  answering_->SendEvents(chunks_.Role(names_));
}

void ChatExchange::SendText() {
  if (text_.empty()) return;
  BeginEvents();
  answering_->SendEvents(chunks_.Text(names_, std::exchange(text_, "")));
}

void ChatExchange::OnEnd(const absl::Status& status) {
  call_ = nullptr;
  if (answering_ == nullptr) return;
  Answering& answering = *answering_;
  if (!status.ok() && !has_begun_) {
    answering_ = nullptr;
    answering.SendError(HttpErrorOf(status));
    return;
  }
  if (!is_stream_) {
    answering_ = nullptr;
    answering.SendJson(WholeReply(names_, text_, ending_));
    return;
  }
  SendText();
  BeginEvents();
  answering_ = nullptr;
  answering.SendEvents(status.ok() ? chunks_.Ending(names_, ending_)
                                   : ErrorEvent(HttpErrorOf(status)));
  answering.EndEvents();
}

}  // namespace minicpmv::gateway
