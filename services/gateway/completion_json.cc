#include "services/gateway/completion_json.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"

namespace minicpmv::gateway {
namespace {

using Json = nlohmann::ordered_json;

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string EventOf(absl::string_view data) { return absl::StrCat("data: ", data, "\n\n"); }

const char* FinishOf(const chat::v1::ReplyEnding& ending) {
  return ending.finish_reason() == chat::v1::FINISH_REASON_LENGTH ? "length" : "stop";
}

Json UsageOf(const chat::v1::Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens()},
          {"completion_tokens", usage.completion_tokens()},
          {"total_tokens", uint64_t{usage.prompt_tokens()} + usage.completion_tokens()},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens()}}}};
}

Json Envelope(const ReplyNames& names, const char* object) {
  return {{"id", names.id}, {"object", object}, {"created", names.created}, {"model", names.model}};
}

std::string Chunk(const ReplyNames& names, Json choices, const Json* usage) {
  Json chunk = Envelope(names, "chat.completion.chunk");
  chunk["choices"] = std::move(choices);
  if (usage != nullptr) chunk["usage"] = *usage;
  return EventOf(Dump(chunk));
}

Json ChoiceOf(Json delta, Json finish_reason) {
  return Json::array({{{"index", 0},
                       {"delta", std::move(delta)},
                       {"logprobs", nullptr},
                       {"finish_reason", std::move(finish_reason)}}});
}

Json JsonOf(const chat::v1::Model& model, int64_t created) {
  return {{"id", model.name()},
          {"object", "model"},
          {"created", created},
          {"owned_by", "minicpmv"},
          {"max_model_len", model.context_tokens()}};
}

Json JsonOf(const StoredFile& file) {
  return {{"id", file.id},
          {"object", "file"},
          {"bytes", file.size},
          {"created_at", file.created},
          {"filename", file.filename},
          {"purpose", file.purpose},
          {"status", "processed"}};
}

}  // namespace

std::string ChunkWriter::Role(const ReplyNames& names) const {
  const Json none;
  return Chunk(names, ChoiceOf({{"role", "assistant"}, {"content", ""}}, nullptr),
               include_usage_ ? &none : nullptr);
}

std::string ChunkWriter::Text(const ReplyNames& names, absl::string_view text) const {
  const Json none;
  return Chunk(names, ChoiceOf({{"content", std::string(text)}}, nullptr),
               include_usage_ ? &none : nullptr);
}

std::string ChunkWriter::Ending(const ReplyNames& names,
                                const chat::v1::ReplyEnding& ending) const {
  const Json none;
  std::string events =
      Chunk(names, ChoiceOf(Json::object(), FinishOf(ending)), include_usage_ ? &none : nullptr);
  if (include_usage_) {
    const Json usage = UsageOf(ending.usage());
    absl::StrAppend(&events, Chunk(names, Json::array(), &usage));
  }
  absl::StrAppend(&events, EventOf("[DONE]"));
  return events;
}

std::string ErrorEvent(const HttpError& error) { return EventOf(error.Body()); }

std::string WholeReply(const ReplyNames& names, absl::string_view text,
                       const chat::v1::ReplyEnding& ending) {
  Json reply = Envelope(names, "chat.completion");
  const Json message = {
      {"role", "assistant"}, {"content", std::string(text)}, {"refusal", nullptr}};
  reply["choices"] = Json::array({{{"index", 0},
                                   {"message", message},
                                   {"logprobs", nullptr},
                                   {"finish_reason", FinishOf(ending)}}});
  reply["usage"] = UsageOf(ending.usage());
  return Dump(reply);
}

std::string ModelListOf(const chat::v1::ListModelsResponse& models, int64_t created) {
  Json list = Json::array();
  for (const chat::v1::Model& model : models.models()) list.push_back(JsonOf(model, created));
  return Dump({{"object", "list"}, {"data", std::move(list)}});
}

std::string ModelOf(const chat::v1::Model& model, int64_t created) {
  return Dump(JsonOf(model, created));
}

std::string FileOf(const StoredFile& file) { return Dump(JsonOf(file)); }

std::string FileListOf(const std::vector<FileStore::File>& files) {
  Json data = Json::array();
  for (const FileStore::File& file : files) data.push_back(JsonOf(*file));
  return Dump({{"object", "list"}, {"data", std::move(data)}, {"has_more", false}});
}

std::string DeletedFileOf(const std::string& id) {
  return Dump({{"id", id}, {"object", "file"}, {"deleted", true}});
}

}  // namespace minicpmv::gateway
