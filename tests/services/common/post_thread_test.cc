#include "services/common/post_thread.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/services/common/link_fixture.h"

namespace minicpmv {
namespace {

TEST(PostThreadTest, CallsInTheOrderOfPosting) {
  std::vector<int> seen;
  {
    PostThread thread;
    for (int i = 0; i < 1000; ++i) thread.Post([&seen, i] { seen.push_back(i); });
  }
  ASSERT_EQ(seen.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], i);
}

TEST(PostThreadTest, CallsWhatIsDueInTheOrderOfTime) {
  std::vector<int> seen;
  Gate done;
  PostThread thread;
  thread.After(absl::Milliseconds(30), [&] {
    seen.push_back(2);
    done.Open();
  });
  thread.After(absl::Milliseconds(10), [&] { seen.push_back(1); });
  thread.After(-absl::Seconds(1), [&] { seen.push_back(0); });
  ASSERT_TRUE(done.Wait());
  EXPECT_EQ(seen, (std::vector<int>{0, 1, 2}));
}

TEST(PostThreadTest, EndsWithWhatWasPostedAndWithoutWhatIsNotDue) {
  std::vector<int> seen;
  {
    PostThread thread;
    thread.After(absl::Hours(1), [&] { seen.push_back(9); });
    thread.Post([&] {
      thread.Post([&] { seen.push_back(2); });
      seen.push_back(1);
    });
  }
  EXPECT_EQ(seen, (std::vector<int>{1, 2}));
}

}  // namespace
}  // namespace minicpmv
