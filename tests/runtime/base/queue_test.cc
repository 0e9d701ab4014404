#include "runtime/base/queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace minicpmv {
namespace {

TEST(QueueTest, GivesItemsInTheOrderPushed) {
  Queue<int> queue(3);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(queue.Push(i));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(queue.Pop(), i);
}

TEST(QueueTest, CarriesWhatCanOnlyBeMoved) {
  Queue<std::unique_ptr<int>> queue(1);
  EXPECT_TRUE(queue.Push(std::make_unique<int>(7)));
  EXPECT_EQ(**queue.Pop(), 7);
}

TEST(QueueTest, GivesWhatWasPushedBeforeItClosedAndThenNothing) {
  Queue<int> queue(2);
  EXPECT_TRUE(queue.Push(1));
  queue.Close();
  EXPECT_FALSE(queue.Push(2));
  EXPECT_EQ(queue.Pop(), 1);
  EXPECT_EQ(queue.Pop(), std::nullopt);
  EXPECT_EQ(queue.Pop(), std::nullopt);
  queue.Close();
}

TEST(QueueTest, HoldsBackAProducerWhileFull) {
  Queue<int> queue(2);
  std::atomic<int> pushed = 0;
  std::thread producer([&] {
    for (int i = 0; i < 100; ++i) {
      EXPECT_TRUE(queue.Push(i));
      ++pushed;
    }
  });
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(queue.Pop(), i);
    EXPECT_LE(pushed, i + 4);  // popped, two queued, and one whose count or push is under way
  }
  producer.join();
}

TEST(QueueTest, WakesAProducerThatWaitsWhenItCloses) {
  Queue<int> queue(1);
  ASSERT_TRUE(queue.Push(0));
  std::thread producer([&] { EXPECT_FALSE(queue.Push(1)); });
  queue.Close();
  producer.join();
}

TEST(QueueTest, WakesAConsumerThatWaitsWhenItCloses) {
  Queue<int> queue(1);
  std::thread consumer([&] { EXPECT_EQ(queue.Pop(), std::nullopt); });
  queue.Close();
  consumer.join();
}

TEST(QueueTest, LosesNothingBetweenManyProducersAndKeepsTheOrderOfEach) {
  constexpr int kProducers = 4, kItems = 5000;
  struct Item {
    int producer, number;
  };
  Queue<Item> queue(7);
  std::vector<std::thread> producers;
  for (int p = 0; p < kProducers; ++p) {
    producers.emplace_back([&queue, p] {
      for (int i = 0; i < kItems; ++i) EXPECT_TRUE(queue.Push({p, i}));
    });
  }
  int next[kProducers] = {};
  for (int i = 0; i < kProducers * kItems; ++i) {
    const std::optional<Item> item = queue.Pop();
    ASSERT_TRUE(item.has_value());
    EXPECT_EQ(item->number, next[item->producer]++);
  }
  for (std::thread& producer : producers) producer.join();
  queue.Close();
  EXPECT_FALSE(queue.Pop().has_value());
}

TEST(QueueTest, HandsOverWhatTheProducerWroteBefore) {
  Queue<int*> queue(1);
  int plain = 0;  // no atomic: the queue itself orders the accesses
  std::thread producer([&] {
    plain = 42;
    EXPECT_TRUE(queue.Push(&plain));
  });
  EXPECT_EQ(**queue.Pop(), 42);
  producer.join();
}

TEST(QueueDeathTest, NeedsRoomForOneItem) { EXPECT_DEATH(Queue<int>(0), "CHECK failed"); }

}  // namespace
}  // namespace minicpmv
