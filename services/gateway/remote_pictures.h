#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "services/gateway/chat_request.h"
#include "services/gateway/fetcher.h"
#include "services/gateway/ground.h"

namespace minicpmv::gateway {

// The pictures of one request that are fetched from the network. The loop's.
class RemotePictures final : public std::enable_shared_from_this<RemotePictures> {
 public:
  // Once, with all of them in order, or with the first failure, which names the field. Not after
  // Cancel.
  using Done = std::function<void(absl::StatusOr<std::vector<CountedBytes>>)>;

  RemotePictures(Ground& ground, std::vector<PictureReference> references, Done done)
      : ground_(ground), references_(std::move(references)), done_(std::move(done)) {}

  void Start();
  void Cancel();

 private:
  void OnPicture(size_t index, absl::StatusOr<CountedBytes> picture);

  Ground& ground_;
  const std::vector<PictureReference> references_;
  Done done_;  // null once it was called, or nobody waits
  std::vector<Fetcher::Number> fetches_;
  std::vector<std::unique_ptr<CountedBytes>> pictures_;  // by reference
  size_t missing_ = 0;
};

}  // namespace minicpmv::gateway
