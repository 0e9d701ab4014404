#include "services/router/request_queue.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/status_proto.h"
#include "services/router/virtual_loop.h"

namespace minicpmv::router {
namespace {

using ::testing::ElementsAre;

class RequestQueueTest : public ::testing::Test {
 protected:
  using Place = std::unique_ptr<RequestQueue::Place>;

  Place Enter(const std::string& tenant = "", RequestClass request_class = RequestClass::kText,
              absl::Time deadline = absl::InfiniteFuture()) {
    auto place = queue_.Enter(request_class, tenant, deadline);
    EXPECT_TRUE(place.ok()) << place.status();
    return *std::move(place);
  }
  // Goes in as soon as there is so much room.
  void Wait(const Place& place, std::string name, int needs = 1) {
    place->Wait([this, &place, name, needs] {
      if (room_ < needs) return false;
      room_ -= needs;
      let_in_.push_back(name);
      place->LetIn();
      return true;
    });
  }
  void MakeRoom(int room) {
    room_ = room;
    queue_.PumpSoon();
    loop_.RunFor(absl::ZeroDuration());
  }

  VirtualLoop loop_;
  RouterWatch watch_;
  RequestQueue queue_{{/*requests=*/4, /*of_one_tenant=*/3}, loop_, watch_};
  int room_ = 0;
  std::vector<std::string> let_in_;
};

TEST_F(RequestQueueTest, LetsInWhoCameFirst) {
  const Place a = Enter(), b = Enter();
  Wait(b, "b");
  Wait(a, "a");
  MakeRoom(2);
  EXPECT_THAT(let_in_, ElementsAre("a", "b"));
}

TEST_F(RequestQueueTest, AsksAtOnceWhereThereIsRoom) {
  room_ = 1;
  const Place a = Enter();
  Wait(a, "a");
  loop_.RunFor(absl::ZeroDuration());
  EXPECT_THAT(let_in_, ElementsAre("a"));
  EXPECT_EQ(queue_.size(), 0u);
}

TEST_F(RequestQueueTest, PutsTextBeforeImagesAndOneTenantBehindOthers) {
  const Place image = Enter("x", RequestClass::kImage), text = Enter("x"), other = Enter("y");
  Wait(image, "image of x");
  Wait(text, "text of x");
  Wait(other, "text of y");
  MakeRoom(3);
  EXPECT_THAT(let_in_, ElementsAre("text of y", "text of x", "image of x"));
}

TEST_F(RequestQueueTest, LetsAgeWinInTheEnd) {
  const Place image = Enter("x", RequestClass::kImage);
  Wait(image, "image");
  loop_.RunFor(absl::Seconds(1));
  const Place text = Enter("y");
  Wait(text, "text");
  MakeRoom(1);
  EXPECT_THAT(let_in_, ElementsAre("image"));
}

TEST_F(RequestQueueTest, PutsWhoHasLittleTimeLeftFirst) {
  const Place image = Enter("", RequestClass::kImage),
              hurried = Enter("", RequestClass::kImage, loop_.Now() + absl::Milliseconds(100));
  Wait(image, "image");
  Wait(hurried, "hurried");
  MakeRoom(1);
  EXPECT_THAT(let_in_, ElementsAre("hurried"));
}

TEST_F(RequestQueueTest, LetsOthersPassWhoFitButNotForEver) {
  const Place large = Enter(), small = Enter();
  Wait(large, "large", 5);
  Wait(small, "small", 1);
  MakeRoom(2);
  EXPECT_THAT(let_in_, ElementsAre("small"));

  loop_.RunFor(absl::Seconds(6));
  const Place late = Enter();
  Wait(late, "late", 1);
  MakeRoom(2);
  EXPECT_THAT(let_in_, ElementsAre("small"));
  MakeRoom(6);
  EXPECT_THAT(let_in_, ElementsAre("small", "large", "late"));
}

TEST_F(RequestQueueTest, RefusesWhatIsOverItsBoundsAndSaysWhenToComeAgain) {
  const Place a = Enter("x"), b = Enter("x"), c = Enter("x");
  const absl::Status of_tenant =
      queue_.Enter(RequestClass::kText, "x", absl::InfiniteFuture()).status();
  EXPECT_TRUE(absl::IsResourceExhausted(of_tenant)) << of_tenant;
  const Place d = Enter("y");
  const absl::Status full = queue_.Enter(RequestClass::kText, "z", absl::InfiniteFuture()).status();
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_EQ(ReasonOf(full), "QUEUE_FULL");
  ASSERT_TRUE(RetryAfterOf(full).has_value());
  EXPECT_GE(*RetryAfterOf(full), absl::Milliseconds(100));
}

TEST_F(RequestQueueTest, RefusesAHopelessDeadlineByTheMeasuredRate) {
  Place a = Enter(), b = Enter(), c = Enter();
  Wait(a, "a");
  Wait(b, "b");
  Wait(c, "c");
  for (int i = 0; i < 2; ++i) {
    loop_.RunFor(absl::Seconds(10));
    MakeRoom(1);
  }
  // One waits, and about 10 s pass between two.
  const absl::Status hopeless =
      queue_.Enter(RequestClass::kText, "", loop_.Now() + absl::Seconds(10)).status();
  EXPECT_TRUE(absl::IsResourceExhausted(hopeless)) << hopeless;
  EXPECT_EQ(ReasonOf(hopeless), "DEADLINE_HOPELESS");
  EXPECT_NEAR(absl::ToDoubleSeconds(*RetryAfterOf(hopeless)), 20, 5);
  EXPECT_TRUE(queue_.Enter(RequestClass::kText, "", loop_.Now() + absl::Minutes(1)).ok());
}

TEST_F(RequestQueueTest, GivesWhoComesBackItsOldPlaceThoughTheQueueIsFull) {
  const Place first = Enter();
  Wait(first, "first");
  MakeRoom(1);
  loop_.RunFor(absl::Seconds(1));
  const Place b = Enter("b"), c = Enter("c"), d = Enter("d"), e = Enter("e");
  Wait(b, "b");
  Wait(first, "first again");
  EXPECT_EQ(queue_.size(), 4u);
  MakeRoom(2);
  EXPECT_THAT(let_in_, ElementsAre("first", "first again", "b"));
}

TEST_F(RequestQueueTest, ForgetsWhoGoes) {
  Place a = Enter("x");
  Wait(a, "a");
  a = nullptr;
  MakeRoom(5);
  EXPECT_TRUE(let_in_.empty());
  EXPECT_EQ(queue_.size(), 0u);
}

}  // namespace
}  // namespace minicpmv::router
