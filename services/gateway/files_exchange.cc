#include "services/gateway/files_exchange.h"

#include <boost/asio/post.hpp>
#include <utility>

#include "runtime/base/status_macros.h"
#include "services/gateway/completion_json.h"
#include "services/gateway/uploaded_form.h"
#include "tools/sdk/cpp/upload.h"

namespace minicpmv::gateway {

void FilesExchange::Start(std::shared_ptr<Body> body) {
  if (request_.method != "POST") {
    AnswerAboutFiles();
    return;
  }
  boost::asio::post(ground_.readers, [self = shared_from_this(), body = std::move(body)]() mutable {
    auto read = std::make_shared<absl::StatusOr<Read>>(
        ReadUpload(std::move(body), self->request_.content_type));
    boost::asio::post(self->ground_.routers.loop, [self, read] { self->OnRead(std::move(*read)); });
  });
}

void FilesExchange::AnswerAboutFiles() {
  Answering& answering = *std::exchange(answering_, nullptr);
  if (request_.id.empty()) {
    answering.SendJson(FileListOf(ground_.files.List(caller_.tenant)));
    return;
  }
  const bool is_delete = request_.method == "DELETE";
  const FileStore::File file = is_delete ? ground_.files.Delete(caller_.tenant, request_.id)
                                         : ground_.files.Find(caller_.tenant, request_.id);
  if (file == nullptr) {
    answering.SendError(NoSuchFile(request_.id));
  } else {
    answering.SendJson(is_delete ? DeletedFileOf(file->id) : FileOf(*file));
  }
}

absl::StatusOr<FilesExchange::Read> FilesExchange::ReadUpload(std::shared_ptr<const Body> body,
                                                              const std::string& content_type) {
  ASSIGN_OR_RETURN(StoredFile file, ReadUploadedForm(body, content_type));
  ASSIGN_OR_RETURN(CountedBytes bytes, body->Read(file.offset, file.size));
  chat::v1::UploadMediaRequest offer = sdk::UploadOfferOf(bytes.bytes);
  file.id = FileIdOf(offer.offer().digest());
  return Read{std::move(file), std::move(bytes), std::move(offer)};
}

void FilesExchange::OnRead(absl::StatusOr<Read> read) {
  if (answering_ == nullptr) return;
  if (!read.ok()) {
    std::exchange(answering_, nullptr)->SendError(HttpErrorOf(read.status()));
    return;
  }
  read_ = std::make_unique<Read>(*std::move(read));
  Upload();
}

void FilesExchange::Upload() {
  ++asked_;
  server_ = &ground_.routers.servers.InUse();
  upload_ = std::make_shared<UploadCall>(
      ground_.routers, read_->bytes.bytes,
      [self = shared_from_this()](const absl::StatusOr<std::string>& handle) {
        self->OnUploaded(handle.status());
      });
  upload_->Start(*server_, caller_, read_->offer);
}

void FilesExchange::OnUploaded(const absl::Status& status) {
  upload_ = nullptr;
  if (answering_ == nullptr) return;
  if (absl::IsUnavailable(status)) {
    ground_.routers.servers.Leave(*server_);
    if (asked_ < ground_.routers.servers.size()) {
      Upload();
      return;
    }
  }
  Answering& answering = *std::exchange(answering_, nullptr);
  if (!status.ok()) {
    HttpError error = HttpErrorOf(status);
    if (error.status == 400) error.param = "file";  // whatever the router calls it
    answering.SendError(error);
    return;
  }
  const absl::StatusOr<FileStore::File> kept =
      ground_.files.Keep(caller_.tenant, std::move(read_->file));
  if (kept.ok()) {
    answering.SendJson(FileOf(**kept));
  } else {
    answering.SendError(NoSpace(kept.status().message()));
  }
}

void FilesExchange::Cancel() {
  answering_ = nullptr;
  if (upload_) upload_->Cancel();
}

void FilesExchange::GiveUp(const absl::Status& why) {
  if (answering_ == nullptr) return;
  std::exchange(answering_, nullptr)->SendError(HttpErrorOf(why));
  if (upload_) upload_->Cancel();
}

}  // namespace minicpmv::gateway
