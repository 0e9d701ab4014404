#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "services/gateway/body.h"
#include "services/gateway/file_store.h"

namespace minicpmv::gateway {

// The file that the body of POST /v1/files brings, without its id; reads all of the body.
// INVALID_ARGUMENT names the field where one is wrong; DATA_LOSS: the body cannot be read back.
absl::StatusOr<StoredFile> ReadUploadedForm(std::shared_ptr<const Body> body,
                                            const std::string& content_type);

}  // namespace minicpmv::gateway
