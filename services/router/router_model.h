#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "minicpmv/chat/v1/chat_service.pb.h"
#include "runtime/model/family.h"
#include "runtime/model/prompt.h"
#include "runtime/text/tokenizer.h"

namespace minicpmv::router {

// What the router needs of a model: how conversations become tokens and tokens become text. No
// weights, no pixels. Immutable; thread-safe.
class RouterModel {
 public:
  // `name`: what clients call it; "": as the folder is called. NOT_FOUND, INVALID_ARGUMENT,
  // DATA_LOSS, UNIMPLEMENTED: the folder does not hold a model that this build runs. Its weights
  // may be missing: then the first worker says which model it is.
  static absl::StatusOr<std::unique_ptr<RouterModel>> Load(const std::string& folder,
                                                           absl::string_view name);
  // From what was read already; for tests.
  static absl::StatusOr<std::unique_ptr<RouterModel>> Create(std::string name, ModelSpec spec,
                                                             std::unique_ptr<Tokenizer> tokenizer);

  const std::string& name() const { return name_; }
  const ModelSpec& spec() const { return spec_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const PromptBuilder& prompts() const { return *prompts_; }
  // "": the folder has no weights.
  const std::string& fingerprint() const { return fingerprint_; }

  chat::v1::Model ToProto() const;

 private:
  RouterModel() = default;

  std::string name_;
  ModelSpec spec_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<PromptBuilder> prompts_;
  std::string fingerprint_;
};

}  // namespace minicpmv::router
