#pragma once

#include <openssl/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "minicpmv/common/v1/media.pb.h"
#include "runtime/media/image.h"
#include "services/vision/pinned_cache.h"

namespace minicpmv::vision {

inline constexpr size_t kDigestBytes = 32;           // SHA-256
inline constexpr size_t kMaxChunkBytes = 256 << 10;  // of a medium on its way here

// A file that somebody sent, whose header has been read.
struct Medium {
  std::string bytes;
  common::v1::MediaInfo info;
};

struct MediaStoreOptions {
  size_t capacity = 512 << 20;  // bytes, of media that are held and of uploads that have begun
  ImageLimits image;
};

class MediaUpload;

// Media by cache scope and digest, within a bound of bytes. Whoever uses one pins it; the others
// may go at any time. Thread-safe.
class MediaStore {
 public:
  using Pin = PinnedCache<Medium>::Pin;

  explicit MediaStore(const MediaStoreOptions& options)
      : options_(options), media_(options.capacity) {}

  // Empty: not, or no longer, held in this scope.
  Pin Find(absl::string_view scope, absl::string_view digest);

  // Keeps room for a medium until the upload ends; this outlives it. INVALID_ARGUMENT names the
  // field: a scope that is too long, a digest that is none, no bytes or more than a medium may have
  // (reason TOO_LARGE). RESOURCE_EXHAUSTED: no room now.
  absl::StatusOr<MediaUpload> Begin(absl::string_view scope, absl::string_view digest,
                                    uint64_t size);

  size_t bytes() const { return media_.bytes(); }
  // Of media in use and of uploads.
  size_t held_bytes() const { return media_.held_bytes(); }

 private:
  friend class MediaUpload;
  const MediaStoreOptions options_;
  PinnedCache<Medium> media_;
};

// One medium on its way into the store. One thread at a time. Destroyed before Finish, it leaves
// nothing.
class MediaUpload {
 public:
  // The next bytes. DATA_LOSS: not where the last ones ended, or more than was offered.
  // INVALID_ARGUMENT: more at once than a chunk may have.
  absl::Status Add(uint64_t offset, absl::string_view data);
  size_t size() const { return size_; }
  size_t received() const { return bytes_.size(); }
  bool is_complete() const { return bytes_.size() == size_; }

  // DATA_LOSS: not all bytes are here, or they have another digest. INVALID_ARGUMENT, whatever else
  // is wrong with the medium: no picture, a kind that is not read, damaged, too large; its reason
  // says which (see RejectionOf).
  absl::StatusOr<MediaStore::Pin> Finish() &&;

 private:
  friend class MediaStore;
  struct FreeHash {
    void operator()(EVP_MD_CTX* hash) const;
  };
  MediaUpload(MediaStore& store, std::string key, std::string digest, size_t size,
              PinnedCache<Medium>::Room room);

  MediaStore* store_;
  std::string key_, digest_;
  size_t size_;
  PinnedCache<Medium>::Room room_;
  std::string bytes_;
  std::unique_ptr<EVP_MD_CTX, FreeHash> hash_;
};

// What is wrong with a medium, as the status of a call about it: always INVALID_ARGUMENT, for no
// repetition helps, with one of the reasons NO_MEDIUM, UNREADABLE_FORMAT, DAMAGED_MEDIUM; only
// RESOURCE_EXHAUSTED stays what it is.
absl::Status RejectionOf(const absl::Status& status);

}  // namespace minicpmv::vision
