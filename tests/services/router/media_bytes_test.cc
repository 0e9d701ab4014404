#include "services/router/media_bytes.h"

#include <gtest/gtest.h>

#include <future>

#include "services/common/status_proto.h"
#include "tests/runtime/base/standing_clock.h"

namespace minicpmv::router {
namespace {

MediaBytes::Limits SmallLimits() {
  MediaBytes::Limits limits;
  limits.one_medium = 100;
  limits.arriving = 150;
  limits.memory = 200;
  limits.files = 250;
  return limits;
}

class MediaBytesTest : public ::testing::Test {
 protected:
  absl::StatusOr<MediaBytes::Held> Keep(absl::string_view scope, const std::string& bytes) {
    absl::StatusOr<std::unique_ptr<MediaBytes::Room>> room = media_.Reserve(bytes.size());
    if (!room.ok()) return room.status();
    return media_.Keep(scope, DigestOf(bytes), bytes, *std::move(room));
  }

  static absl::StatusOr<std::string> Load(const MediaBytes::Held& medium) {
    std::promise<absl::StatusOr<std::string>> loaded;
    medium->Load([&](absl::StatusOr<std::shared_ptr<const std::string>> bytes) {
      if (bytes.ok()) {
        loaded.set_value(**bytes);
      } else {
        loaded.set_value(bytes.status());
      }
    });
    return loaded.get_future().get();
  }

  StandingClock clock_;
  MediaBytes media_{SmallLimits(), clock_};
};

TEST_F(MediaBytesTest, HandsOutWhatWasKept) {
  const MediaBytes::Held medium = *Keep("a", "picture");
  EXPECT_EQ(medium->digest(), DigestOf("picture"));
  EXPECT_EQ(medium->size(), 7u);
  EXPECT_EQ(*Load(medium), "picture");
}

TEST_F(MediaBytesTest, LetsGoWithTheLastHolder) {
  MediaBytes::Held first = *Keep("a", "picture");
  MediaBytes::Held second = media_.Find("a", DigestOf("picture"));
  ASSERT_NE(second, nullptr);
  first = nullptr;
  EXPECT_EQ(media_.used(), std::make_pair(int64_t{7}, int64_t{0}));
  second = nullptr;
  EXPECT_EQ(media_.used(), std::make_pair(int64_t{0}, int64_t{0}));
  EXPECT_EQ(media_.Find("a", DigestOf("picture")), nullptr);
}

TEST_F(MediaBytesTest, KeepsEqualBytesOfOneScopeOnce) {
  const MediaBytes::Held first = *Keep("a", "picture"), second = *Keep("a", "picture");
  EXPECT_EQ(media_.used().first, 7);
  const MediaBytes::Held other = *Keep("b", "picture");
  EXPECT_EQ(media_.used().first, 14);
}

TEST_F(MediaBytesTest, GoesToFilesWhereMemoryIsFull) {
  const std::string c(90, 'c');
  std::vector<MediaBytes::Held> held = {*Keep("a", std::string(90, 'a')),
                                        *Keep("a", std::string(90, 'b')), *Keep("a", c)};
  EXPECT_EQ(media_.used(), std::make_pair(int64_t{180}, int64_t{90}));
  EXPECT_EQ(*Load(held[2]), c);
  // Written in order: what comes after it finds it in its file.
  for (int i = 0; i < 3; ++i) {
    absl::StatusOr<MediaBytes::Held> more = Keep("a", std::string(80, static_cast<char>('d' + i)));
    while (absl::IsResourceExhausted(more.status()) && i < 2) {
      more = Keep("a", std::string(80, static_cast<char>('d' + i)));
    }
    EXPECT_EQ(more.ok(), i < 2) << more.status();
    if (more.ok()) held.push_back(*more);
  }
  EXPECT_EQ(*Load(held[2]), c);
  EXPECT_EQ(*Load(held[4]), std::string(80, 'e'));
  held.clear();
  EXPECT_EQ(media_.used(), std::make_pair(int64_t{0}, int64_t{0}));
}

TEST_F(MediaBytesTest, BoundsWhatArrives) {
  EXPECT_TRUE(absl::IsInvalidArgument(media_.Reserve(101).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(media_.Reserve(UINT64_MAX).status()));
  std::unique_ptr<MediaBytes::Room> room = *media_.Reserve(100);
  const absl::Status full = media_.Reserve(51).status();
  EXPECT_TRUE(absl::IsResourceExhausted(full));
  EXPECT_TRUE(RetryAfterOf(full).has_value());
  EXPECT_EQ(ReasonOf(full), "MEDIA_FULL");
  room = nullptr;
  EXPECT_TRUE(media_.Reserve(51).ok());
}

TEST_F(MediaBytesTest, FindsHandlesInTheirOwnScopeOnly) {
  const std::string handle = media_.Publish(*Keep("a", "picture"));
  EXPECT_TRUE(media_.FindHandle("a", handle).ok());
  EXPECT_TRUE(absl::IsNotFound(media_.FindHandle("b", handle).status()));
  EXPECT_TRUE(absl::IsNotFound(media_.FindHandle("", handle).status()));
  for (const char* const wrong : {"", "media-", "media-zz", "picture"}) {
    EXPECT_TRUE(absl::IsNotFound(media_.FindHandle("a", wrong).status())) << wrong;
  }
  EXPECT_TRUE(absl::IsNotFound(media_.FindHandle("a", "media-" + std::string(64, 'z')).status()));
}

TEST_F(MediaBytesTest, KnowsNoHandleOfWhatWasSentInline) {
  const MediaBytes::Held kept = *Keep("a", "other");
  const std::string handle = media_.Publish(*Keep("b", "other"));
  EXPECT_TRUE(absl::IsNotFound(media_.FindHandle("a", handle).status()));
}

TEST_F(MediaBytesTest, KeepsUploadsForAWhileAfterTheirLastUse) {
  const std::string handle = media_.Publish(*Keep("a", "picture"));
  clock_.now += absl::Minutes(9);
  EXPECT_TRUE(media_.FindHandle("a", handle).ok());
  clock_.now += absl::Minutes(9);
  MediaBytes::Held held = *media_.FindHandle("a", handle);
  clock_.now += absl::Minutes(30);
  EXPECT_TRUE(media_.FindHandle("a", handle).ok()) << "while somebody holds it";
  held = nullptr;
  clock_.now += absl::Minutes(11);
  EXPECT_TRUE(absl::IsNotFound(media_.FindHandle("a", handle).status()));
  EXPECT_EQ(media_.used().first, 0);
}

TEST(MediaBytesWithoutAFolderTest, KeepsInMemoryWhatCannotBeWritten) {
  MediaBytes::Limits limits = SmallLimits();
  limits.memory = 0;
  limits.folder = "/nowhere/at/all";
  MediaBytes media(limits);
  {
    const std::string bytes(100, 'x');
    const MediaBytes::Held medium =
        *media.Keep("a", DigestOf(bytes), bytes, *media.Reserve(bytes.size()));
    std::promise<std::string> loaded;
    medium->Load([&](const auto& read) { loaded.set_value(**read); });
    EXPECT_EQ(loaded.get_future().get(), bytes);
    EXPECT_TRUE(absl::IsResourceExhausted(media.Reserve(100).status()));
  }
  // Whether it had been tried to write it before that or not.
  while (!media.Reserve(100).ok()) {
  }
}

}  // namespace
}  // namespace minicpmv::router
