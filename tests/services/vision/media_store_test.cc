#include "services/vision/media_store.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "services/common/status_proto.h"
#include "tests/services/vision/pictures.h"

namespace minicpmv::vision {
namespace {

absl::StatusOr<MediaStore::Pin> Put(MediaStore& store, const std::string& scope,
                                    const std::string& bytes) {
  absl::StatusOr<MediaUpload> upload = store.Begin(scope, DigestOf(bytes), bytes.size());
  if (!upload.ok()) return upload.status();
  for (size_t i = 0; i < bytes.size(); i += kMaxChunkBytes) {
    const absl::Status added = upload->Add(i, absl::string_view(bytes).substr(i, kMaxChunkBytes));
    if (!added.ok()) return added;
  }
  return (*std::move(upload)).Finish();
}

TEST(MediaStoreTest, FindsAMediumInItsOwnScopeOnly) {
  MediaStore store({});
  const std::string bytes = SlicedPicture();
  EXPECT_FALSE(store.Find("a", DigestOf(bytes)));
  ASSERT_TRUE(Put(store, "a", bytes).ok());
  const MediaStore::Pin found = store.Find("a", DigestOf(bytes));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->bytes, bytes);
  EXPECT_EQ(found->info.format(), "png");
  EXPECT_EQ(found->info.kind(), common::v1::MEDIA_KIND_IMAGE);
  EXPECT_EQ(found->info.width(), 420u);
  EXPECT_EQ(found->info.height(), 415u);
  EXPECT_FALSE(store.Find("", DigestOf(bytes)));
  EXPECT_FALSE(store.Find("b", DigestOf(bytes)));
}

TEST(MediaStoreTest, TellsTheSizeAsShownAndAsStored) {
  MediaStore store({});
  const MediaStore::Pin pin =
      Must(Put(store, "", FileBytes("tests/testdata/images/orientation6.jpg")));
  EXPECT_EQ(pin->info.format(), "jpeg");
  EXPECT_NE(pin->info.width(), pin->info.height());
  EXPECT_EQ(pin->info.width(), pin->info.stored_height());
  EXPECT_EQ(pin->info.height(), pin->info.stored_width());
}

TEST(MediaStoreTest, GivesUpTheLeastRecentlyUsedButNothingInUse) {
  const std::string a = SlicedPicture(), b = WidePicture(), c = SmallPicture();
  MediaStoreOptions options;
  options.capacity = a.size() + b.size() + c.size() - 1;
  MediaStore store(options);
  ASSERT_TRUE(Put(store, "", a).ok());
  ASSERT_TRUE(Put(store, "", b).ok());
  {
    const MediaStore::Pin pinned = store.Find("", DigestOf(a));
    ASSERT_TRUE(Put(store, "", c).ok());
    EXPECT_TRUE(store.Find("", DigestOf(a)));
    EXPECT_FALSE(store.Find("", DigestOf(b)));
    // Beside what is pinned there is room for c, and not for b.
    EXPECT_TRUE(absl::IsResourceExhausted(Put(store, "", b + std::string(a.size(), 'x')).status()));
    EXPECT_TRUE(store.Find("", DigestOf(c)));
  }
  EXPECT_EQ(store.held_bytes(), 0u);
}

TEST(MediaStoreTest, AnUploadThatEndsInTheMiddleLeavesNothing) {
  MediaStore store({});
  const std::string bytes = SlicedPicture();
  {
    MediaUpload upload = Must(store.Begin("", DigestOf(bytes), bytes.size()));
    ASSERT_TRUE(upload.Add(0, absl::string_view(bytes).substr(0, 100)).ok());
    EXPECT_EQ(store.held_bytes(), bytes.size());
  }
  EXPECT_EQ(store.held_bytes(), 0u);
  EXPECT_EQ(store.bytes(), 0u);
}

TEST(MediaStoreTest, ManyUnfinishedUploadsHoldNoMoreThanTheBound) {
  MediaStoreOptions options;
  options.capacity = 3000;
  MediaStore store(options);
  const MediaUpload first = Must(store.Begin("", std::string(32, 'a'), 2000));
  const absl::Status status = store.Begin("", std::string(32, 'b'), 2000).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
}

TEST(MediaStoreTest, RefusesAnOfferThatCannotBe) {
  MediaStore store({});
  const std::string digest(32, 'd');
  for (const absl::Status& status :
       {store.Begin("", digest, 0).status(), store.Begin("", digest, (20 << 20) + 1).status(),
        store.Begin("", digest, ~uint64_t{0}).status(),
        store.Begin("", digest.substr(1), 10).status(),
        store.Begin(std::string(65, 's'), digest, 10).status()}) {
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  }
}

TEST(MediaStoreTest, RefusesBytesThatAreNotThoseThatWereOffered) {
  MediaStore store({});
  const std::string bytes = SlicedPicture();
  const std::string digest = DigestOf(bytes);
  {
    MediaUpload upload = Must(store.Begin("", digest, bytes.size()));
    EXPECT_TRUE(absl::IsDataLoss(upload.Add(1, "x")));
    ASSERT_TRUE(upload.Add(0, "x").ok());
    EXPECT_TRUE(absl::IsDataLoss(upload.Add(0, "x")));
    EXPECT_TRUE(absl::IsDataLoss(upload.Add(2, "x")));
    EXPECT_TRUE(absl::IsDataLoss(upload.Add(1, bytes)));
    EXPECT_TRUE(absl::IsInvalidArgument(upload.Add(1, std::string(kMaxChunkBytes + 1, 'x'))));
    EXPECT_TRUE(absl::IsDataLoss(std::move(upload).Finish().status()));
  }
  MediaUpload upload = Must(store.Begin("", digest, bytes.size()));
  std::string damaged = bytes;
  damaged[bytes.size() / 2] ^= 1;
  ASSERT_TRUE(upload.Add(0, damaged).ok());
  EXPECT_TRUE(absl::IsDataLoss(std::move(upload).Finish().status()));
  EXPECT_FALSE(store.Find("", digest));
}

TEST(MediaStoreTest, RefusesWhatIsNoMediumAndSaysWhy) {
  MediaStore store({});
  const struct {
    std::string bytes, reason;
  } cases[] = {{"<html>not a picture</html>", "NO_MEDIUM"},
               {std::string("GIF89a\1\0\1\0\0\0\0;", 14), "UNREADABLE_FORMAT"},
               {SlicedPicture().substr(0, 20), "DAMAGED_MEDIUM"}};
  for (const auto& [bytes, reason] : cases) {
    const absl::Status status = Put(store, "", bytes).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_EQ(ReasonOf(status), reason) << status;
  }
  EXPECT_EQ(store.bytes(), 0u);
}

TEST(MediaStoreTest, KeepsTheFirstOfTwoUploadsOfOneMedium) {
  MediaStore store({});
  const std::string bytes = SmallPicture();
  MediaUpload first = Must(store.Begin("", DigestOf(bytes), bytes.size()));
  MediaUpload second = Must(store.Begin("", DigestOf(bytes), bytes.size()));
  ASSERT_TRUE(first.Add(0, bytes).ok());
  ASSERT_TRUE(second.Add(0, bytes).ok());
  const MediaStore::Pin a = Must(std::move(first).Finish());
  const MediaStore::Pin b = Must(std::move(second).Finish());
  EXPECT_EQ(&*a, &*b);
  EXPECT_EQ(store.bytes(), bytes.size());
}

}  // namespace
}  // namespace minicpmv::vision
