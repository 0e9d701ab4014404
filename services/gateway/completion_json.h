#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "minicpmv/chat/v1/chat_service.pb.h"
#include "services/gateway/file_store.h"
#include "services/gateway/http_error.h"

namespace minicpmv::gateway {

// The shapes of OpenAI's answers.

// What all answers to one request say.
struct ReplyNames {
  std::string id;       // "chatcmpl-..."
  int64_t created = 0;  // Unix seconds
  std::string model;
};

// Of a stream, each one event "data: {...}\n\n". `include_usage`: all chunks have "usage", which is
// null but in the last one.
class ChunkWriter {
 public:
  explicit ChunkWriter(bool include_usage) : include_usage_(include_usage) {}

  std::string Role(const ReplyNames& names) const;
  std::string Text(const ReplyNames& names, absl::string_view text) const;
  // The finish reason, the usage where it was asked for, and [DONE].
  std::string Ending(const ReplyNames& names, const chat::v1::ReplyEnding& ending) const;

 private:
  bool include_usage_;
};
// An error in mid-stream, as an event.
std::string ErrorEvent(const HttpError& error);

std::string WholeReply(const ReplyNames& names, absl::string_view text,
                       const chat::v1::ReplyEnding& ending);

std::string ModelListOf(const chat::v1::ListModelsResponse& models, int64_t created);
// One of them.
std::string ModelOf(const chat::v1::Model& model, int64_t created);

std::string FileOf(const StoredFile& file);
std::string FileListOf(const std::vector<FileStore::File>& files);
std::string DeletedFileOf(const std::string& id);

}  // namespace minicpmv::gateway
