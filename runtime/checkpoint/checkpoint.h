#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tensor/tensor.h"

namespace minicpmv {

// The named tensors of a model's folder. Knows formats and no models. Tensors are mapped, not read:
// their bytes come from the disk when touched, and processes on one machine share them. Views, and
// the strings of names(), live as long as the checkpoint. Thread-safe.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  // Row-major elements in the machine's memory, aligned to the size of an element and no further.
  // NOT_FOUND: no tensor of that name. UNIMPLEMENTED: it is there, but its dtype or its more than
  // four axes are nothing that we read.
  virtual absl::StatusOr<ConstTensorView> Find(absl::string_view name) const = 0;
  // Sorted; those that Find calls UNIMPLEMENTED, too.
  virtual std::vector<absl::string_view> names() const = 0;
  // The folder.
  virtual const std::string& path() const = 0;
  // Of all tensors together, without headers.
  virtual uint64_t bytes() const = 0;
};

// Opens a folder that holds model.safetensors or, if it does not, model.safetensors.index.json and
// the shards that it names; or a single file whose name ends in .safetensors. Every header is
// checked here, so that what opens is whole.
//
// NOT_FOUND: no such folder, file or shard. DATA_LOSS: a file is cut, or a header or index says
// what cannot be; the words name the file, the tensor and the numbers. INVALID_ARGUMENT: the index
// is not JSON of the expected form. UNIMPLEMENTED: a dtype that the format does not know.
// FAILED_PRECONDITION: a file may not be read, or a Git LFS pointer stands in its place.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenSafetensors(const std::string& folder_or_file);

}  // namespace minicpmv
