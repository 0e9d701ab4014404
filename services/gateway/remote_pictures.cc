#include "services/gateway/remote_pictures.h"

#include <boost/asio/post.hpp>

#include "services/common/read_prompt.h"

namespace minicpmv::gateway {

void RemotePictures::Start() {
  missing_ = references_.size();
  pictures_.resize(missing_);
  for (size_t i = 0; i < references_.size(); ++i) {
    fetches_.push_back(ground_.fetcher->Start(
        references_[i].name, [self = shared_from_this(), i](absl::StatusOr<CountedBytes> picture) {
          boost::asio::post(self->ground_.routers.loop,
                            [self, i, picture = std::move(picture)]() mutable {
                              self->OnPicture(i, std::move(picture));
                            });
        }));
  }
}

void RemotePictures::Cancel() {
  done_ = nullptr;
  for (const Fetcher::Number number : fetches_) ground_.fetcher->Cancel(number);
}

void RemotePictures::OnPicture(size_t index, absl::StatusOr<CountedBytes> picture) {
  if (!done_) return;
  if (!picture.ok()) {
    const Done done = std::move(done_);
    Cancel();
    const std::string& field = references_[index].field;
    const absl::Status& status = picture.status();
    done(absl::IsInvalidArgument(status) ? BadField(field, status.message()) : status);
    return;
  }
  pictures_[index] = std::make_unique<CountedBytes>(*std::move(picture));
  if (--missing_ > 0) return;
  std::vector<CountedBytes> all;
  for (const std::unique_ptr<CountedBytes>& one : pictures_) all.push_back(std::move(*one));
  std::exchange(done_, nullptr)(std::move(all));
}

}  // namespace minicpmv::gateway
