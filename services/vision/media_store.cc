#include "services/vision/media_store.h"

#include <openssl/evp.h>

#include <array>
#include <new>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "services/common/read_prompt.h"
#include "services/common/status_proto.h"

namespace minicpmv::vision {
namespace {

// Digests have one length, so no two pairs make one key.
std::string KeyOf(absl::string_view scope, absl::string_view digest) {
  return absl::StrCat(digest, scope);
}

absl::StatusOr<common::v1::MediaInfo> Probe(absl::string_view bytes, const ImageLimits& limits) {
  const absl::Span<const uint8_t> span(reinterpret_cast<const uint8_t*>(bytes.data()),
                                       bytes.size());
  ASSIGN_OR_RETURN(const ImageInfo upright, ProbeImage(span, Exif::kApply, limits));
  ASSIGN_OR_RETURN(const ImageInfo stored, ProbeImage(span, Exif::kIgnore, limits));
  common::v1::MediaInfo info;
  info.set_kind(common::v1::MEDIA_KIND_IMAGE);
  info.set_format(absl::AsciiStrToLower(upright.format));
  info.set_width(static_cast<uint32_t>(upright.width));
  info.set_height(static_cast<uint32_t>(upright.height));
  info.set_stored_width(static_cast<uint32_t>(stored.width));
  info.set_stored_height(static_cast<uint32_t>(stored.height));
  return info;
}

}  // namespace

absl::Status RejectionOf(const absl::Status& status) {
  absl::string_view reason;
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      reason = "NO_MEDIUM";
      break;
    case absl::StatusCode::kUnimplemented:
      reason = "UNREADABLE_FORMAT";
      break;
    case absl::StatusCode::kDataLoss:
      reason = "DAMAGED_MEDIUM";
      break;
    default:
      return status;
  }
  return WithReason(absl::InvalidArgumentError(status.message()), reason);
}

MediaStore::Pin MediaStore::Find(absl::string_view scope, absl::string_view digest) {
  return media_.Find(KeyOf(scope, digest));
}

absl::StatusOr<MediaUpload> MediaStore::Begin(absl::string_view scope, absl::string_view digest,
                                              uint64_t size) {
  if (scope.size() > kMaxCacheScopeBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("cache_scope has ", scope.size(), " bytes, more than ", kMaxCacheScopeBytes));
  }
  if (digest.size() != kDigestBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("digest has ", digest.size(), " bytes, not ", kDigestBytes));
  }
  if (size == 0) {
    return WithReason(absl::InvalidArgumentError("size is 0: a medium has bytes"), "NO_MEDIUM");
  }
  if (size > options_.image.bytes) {
    return WithReason(absl::InvalidArgumentError(absl::StrCat(
                          "size is ", size, " bytes; the limit is ", options_.image.bytes)),
                      "TOO_LARGE");
  }
  std::optional<PinnedCache<Medium>::Room> room = media_.Reserve(static_cast<size_t>(size));
  if (!room) {
    return absl::ResourceExhaustedError(absl::StrCat("no room for a medium of ", size,
                                                     " bytes: ", media_.held_bytes(), " of ",
                                                     media_.capacity(), " are in use"));
  }
  return MediaUpload(*this, KeyOf(scope, digest), std::string(digest), static_cast<size_t>(size),
                     *std::move(room));
}

void MediaUpload::FreeHash::operator()(EVP_MD_CTX* hash) const { EVP_MD_CTX_free(hash); }

MediaUpload::MediaUpload(MediaStore& store, std::string key, std::string digest, size_t size,
                         PinnedCache<Medium>::Room room)
    : store_(&store),
      key_(std::move(key)),
      digest_(std::move(digest)),
      size_(size),
      room_(std::move(room)),
      hash_(EVP_MD_CTX_new()) {
  CHECK(hash_ != nullptr && EVP_DigestInit_ex(hash_.get(), EVP_sha256(), nullptr) == 1);
}

absl::Status MediaUpload::Add(uint64_t offset, absl::string_view data) {
  if (data.size() > kMaxChunkBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a chunk of ", data.size(), " bytes; at most ", kMaxChunkBytes, " travel"));
  }
  if (offset != bytes_.size()) {
    return absl::DataLossError(
        absl::StrCat("a chunk begins at ", offset, " where ", bytes_.size(), " comes next"));
  }
  if (data.size() > size_ - bytes_.size()) {
    return absl::DataLossError(absl::StrCat("more than the ", size_, " bytes that were offered"));
  }
  // The host takes pages as they are touched: what never comes costs an address only.
  if (bytes_.empty()) bytes_.reserve(size_);
  bytes_.append(data.data(), data.size());
  CHECK_EQ(EVP_DigestUpdate(hash_.get(), data.data(), data.size()), 1);
  return absl::OkStatus();
}

absl::StatusOr<MediaStore::Pin> MediaUpload::Finish() && {
  if (!is_complete()) {
    return absl::DataLossError(
        absl::StrCat("only ", bytes_.size(), " of ", size_, " bytes have come"));
  }
  std::string digest(kDigestBytes, '\0');
  CHECK_EQ(EVP_DigestFinal_ex(hash_.get(), reinterpret_cast<uint8_t*>(digest.data()), nullptr), 1);
  if (digest != digest_) {
    return absl::DataLossError("the bytes are not those whose digest was offered");
  }
  absl::StatusOr<common::v1::MediaInfo> info = Probe(bytes_, store_->options_.image);
  if (!info.ok()) return RejectionOf(info.status());
  return store_->media_.Insert(std::move(key_), std::move(room_),
                               {std::move(bytes_), *std::move(info)});
}

}  // namespace minicpmv::vision
