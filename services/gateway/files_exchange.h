#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "minicpmv/chat/v1/chat_service.pb.h"
#include "services/gateway/caller.h"
#include "services/gateway/exchange.h"
#include "services/gateway/ground.h"
#include "services/gateway/upload_call.h"

namespace minicpmv::gateway {

// POST and GET /v1/files, GET and DELETE /v1/files/ID.
//
// What is uploaded goes to a router and so to a vision worker at once: what it cannot read is
// refused here, and not when it is used.
class FilesExchange final : public Exchange, public std::enable_shared_from_this<FilesExchange> {
 public:
  struct Request {
    std::string method;
    std::string id;            // "": of all
    std::string content_type;  // of what is uploaded
  };

  FilesExchange(Ground& ground, Answering& answering, Caller caller, Request request)
      : ground_(ground),
        answering_(&answering),
        caller_(std::move(caller)),
        request_(std::move(request)) {}

  void Start(std::shared_ptr<Body> body) override;
  void Cancel() override;
  void GiveUp(const absl::Status& why) override;

 private:
  // A form that was read, its file in memory for the upload.
  struct Read {
    StoredFile file;
    CountedBytes bytes;
    chat::v1::UploadMediaRequest offer;
  };
  static absl::StatusOr<Read> ReadUpload(std::shared_ptr<const Body> body,
                                         const std::string& content_type);

  void AnswerAboutFiles();
  void OnRead(absl::StatusOr<Read> read);
  void Upload();
  void OnUploaded(const absl::Status& status);

  Ground& ground_;
  Answering* answering_;  // null: cancelled, or answered
  const Caller caller_;
  const Request request_;
  std::unique_ptr<Read> read_;
  size_t asked_ = 0;  // routers
  sdk::Servers::Server* server_ = nullptr;
  std::shared_ptr<UploadCall> upload_;
};

}  // namespace minicpmv::gateway
