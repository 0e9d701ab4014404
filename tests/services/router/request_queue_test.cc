#include "services/router/request_queue.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
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
  void Wait(const Place& place, std::string name, int needs = 1, double work = 1) {
    place->Wait(work, [this, &place, name, needs] {
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
  TenantBook tenants_;
  RequestQueue queue_{{/*requests=*/4, /*of_one_tenant=*/3}, tenants_, loop_, watch_};
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

TEST_F(RequestQueueTest, PutsTextBeforeImagesAndLetsTenantsTakeTurns) {
  const Place image = Enter("x", RequestClass::kImage), text = Enter("x"), other = Enter("y");
  Wait(image, "image of x");
  Wait(text, "text of x");
  Wait(other, "text of y");
  MakeRoom(3);
  EXPECT_THAT(let_in_, ElementsAre("text of x", "text of y", "image of x"));
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

TEST_F(RequestQueueTest, RefusesAWaitThatIsTooLongByTheMeasuredRate) {
  RequestQueue queue({/*requests=*/100, /*of_one_tenant=*/100, /*wait=*/absl::Seconds(10)}, tenants_,
                     loop_, watch_);
  const auto enter = [&] { return queue.Enter(RequestClass::kText, "", absl::InfiniteFuture()); };
  const Place a = *enter(), b = *enter(), c = *enter();
  Wait(a, "a");
  Wait(b, "b");
  Wait(c, "c");
  for (int i = 0; i < 2; ++i) {
    loop_.RunFor(absl::Seconds(4));
    room_ = 1;
    queue.PumpSoon();
    loop_.RunFor(absl::ZeroDuration());
  }
  // One waits, and 4 s pass between two.
  const Place d = *enter();
  const absl::Status refused = enter().status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_EQ(ReasonOf(refused), "QUEUE_FULL");
  EXPECT_NEAR(absl::ToDoubleSeconds(*RetryAfterOf(refused)), 12, 0.1);
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

// What each of two tenants has had when both always have requests waiting, of so much work each.
std::pair<double, double> WorkDone(double weight_of_a, double work_of_a, double work_of_b) {
  VirtualLoop loop;
  RouterWatch watch;
  TenantBook tenants;
  tenants.named["a"].weight = weight_of_a;
  tenants.named["b"].weight = 1;
  RequestQueue queue({/*requests=*/100, /*of_one_tenant=*/100}, tenants, loop, watch);
  std::vector<std::unique_ptr<RequestQueue::Place>> places;
  bool has_room = false;
  std::pair<double, double> done = {0, 0};
  const std::function<void(bool)> come = [&](bool is_a) {
    const double work = is_a ? work_of_a : work_of_b;
    places.push_back(*queue.Enter(RequestClass::kText, is_a ? "a" : "b", absl::InfiniteFuture()));
    places.back()->Wait(work, [&, place = places.back().get(), is_a, work] {
      if (!has_room) return false;
      has_room = false;
      place->LetIn();
      (is_a ? done.first : done.second) += work;
      loop.Post([&, is_a] { come(is_a); });
      return true;
    });
  };
  for (int i = 0; i < 10; ++i) come(true);
  for (int i = 0; i < 10; ++i) come(false);
  for (int i = 0; i < 3000; ++i) {
    has_room = true;
    queue.PumpSoon();
    loop.RunFor(absl::Milliseconds(10));
  }
  places.clear();
  return done;
}

TEST(TenantsInTheQueueTest, HaveWorkAsTheirWeightsAreHoweverHeavyEachRequestIs) {
  for (const double weight : {1.0, 3.0}) {
    for (const double work_of_b : {1.0, 25.0}) {
      const auto [a, b] = WorkDone(weight, /*work_of_a=*/5, work_of_b);
      EXPECT_NEAR(a / b, weight, 0.05 * weight) << "b's requests are of " << work_of_b;
    }
  }
}

TEST_F(RequestQueueTest, GivesNoCreditForTimeInWhichATenantDidNotAsk) {
  Place x1 = Enter("x"), x2 = Enter("x"), x3 = Enter("x");
  Wait(x1, "x1", 1, 100);
  Wait(x2, "x2", 1, 100);
  Wait(x3, "x3", 1, 100);
  MakeRoom(1);
  Place y1 = Enter("y"), y2 = Enter("y");
  Wait(y1, "y1", 1, 100);
  Wait(y2, "y2", 1, 100);
  MakeRoom(4);
  EXPECT_THAT(let_in_, ElementsAre("x1", "y1", "x2", "y2", "x3"));
}

TEST_F(RequestQueueTest, CountsWhatTheWorkHasComeToInTheEnd) {
  Place x1 = Enter("x"), x2 = Enter("x"), y1 = Enter("y"), y2 = Enter("y");
  Wait(x1, "x1", 1, 10);
  Wait(x2, "x2", 1, 10);
  Wait(y1, "y1", 1, 10);
  Wait(y2, "y2", 1, 10);
  MakeRoom(1);
  x1->Correct(1000);
  MakeRoom(3);
  EXPECT_THAT(let_in_, ElementsAre("x1", "y1", "y2", "x2"));
}

TEST_F(RequestQueueTest, PredictsTheWaitOfATenantWhoHasLittleAmongOneWhoHasMuch) {
  Place x1 = Enter("x"), x2 = Enter("x"), x3 = Enter("x");
  Wait(x1, "x1");
  Wait(x2, "x2");
  Wait(x3, "x3");
  loop_.RunFor(absl::Seconds(10));
  MakeRoom(1);
  x1 = nullptr;
  Place x4 = Enter("x");
  Wait(x4, "x4");
  // One of x goes before, though three wait.
  const absl::Time in_25s = loop_.Now() + absl::Seconds(25);
  EXPECT_TRUE(queue_.Enter(RequestClass::kText, "y", in_25s).ok());
  EXPECT_FALSE(queue_.Enter(RequestClass::kText, "x", in_25s).ok());
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
