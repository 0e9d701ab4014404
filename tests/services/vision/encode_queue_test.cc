#include "services/vision/encode_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "runtime/device/cpu_device.h"
#include "services/common/status_proto.h"
#include "tests/services/vision/pictures.h"

namespace minicpmv::vision {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

constexpr auto kPatience = std::chrono::seconds(20);

// Rows that tell whose they are: the first pixel of the slice. Encodes a batch when it is let to.
class GatedEncoder final : public SliceEncoder {
 public:
  absl::Status Encode(absl::Span<const Image* const> slices,
                      absl::Span<const TensorView> rows) override {
    std::unique_lock<std::mutex> lock(mutex_);
    std::vector<int> batch;
    for (size_t i = 0; i < slices.size(); ++i) {
      rows[i].as<float>()[0] = slices[i]->rgb[0];
      batch.push_back(slices[i]->rgb[0]);
    }
    batches_.push_back(batch);
    changed_.notify_all();
    changed_.wait_for(lock, kPatience, [&] { return allowed_ >= batches_.size(); });
    return std::exchange(status_, absl::OkStatus());
  }
  void Allow(size_t batches) {
    const std::lock_guard<std::mutex> lock(mutex_);
    allowed_ += batches;
    changed_.notify_all();
  }
  // That many have begun.
  void Await(size_t batches) {
    std::unique_lock<std::mutex> lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, kPatience, [&] { return batches_.size() >= batches; }));
  }
  void FailNext(absl::Status status) {
    const std::lock_guard<std::mutex> lock(mutex_);
    status_ = std::move(status);
  }
  std::vector<std::vector<int>> batches() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return batches_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::vector<int>> batches_;
  size_t allowed_ = 0;
  absl::Status status_;
};

class Recorder final : public EncodeObserver {
 public:
  void OnOpened(SubImages sub_images, absl::Time, absl::Time) override {
    Note([&] { opened_ = sub_images->size(); });
  }
  void OnRowsFound(int64_t slice, RowsCache::Pin rows) override {
    Note([&] { found_.push_back({slice, rows->view.as<float>()[0]}); });
  }
  void OnRowsMade(int64_t slice, RowsCache::Pin rows, absl::Time, absl::Time) override {
    Note([&] {
      made_.push_back({slice, rows->view.as<float>()[0]});
      if (keeps_) kept_.push_back(std::move(rows));
    });
  }
  void OnFailed(const absl::Status& status) override {
    Note([&] { status_ = status; });
  }

  void KeepRows() { keeps_ = true; }
  void LetGo() {
    std::vector<RowsCache::Pin> kept;
    const std::lock_guard<std::mutex> lock(mutex_);
    kept.swap(kept_);
  }
  void AwaitMade(size_t count) {
    Await([&] { return made_.size() >= count; });
  }
  void AwaitOpened() {
    Await([&] { return opened_ > 0; });
  }
  void AwaitFailed() {
    Await([&] { return !status_.ok(); });
  }

  using Slices = std::vector<std::pair<int64_t, float>>;
  Slices made() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return made_;
  }
  Slices found() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return found_;
  }
  absl::Status status() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return status_;
  }
  size_t opened() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return opened_;
  }

 private:
  template <typename Change>
  void Note(Change change) {
    const std::lock_guard<std::mutex> lock(mutex_);
    change();
    changed_.notify_all();
  }
  template <typename Condition>
  void Await(Condition condition) {
    std::unique_lock<std::mutex> lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, kPatience, condition));
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  size_t opened_ = 0;
  Slices made_, found_;
  bool keeps_ = false;
  std::vector<RowsCache::Pin> kept_;
  absl::Status status_;
};

class EncodeQueueTest : public ::testing::Test {
 protected:
  static constexpr size_t kRowsBytes = 2 * 8 * 4;

  void Start(int64_t batch_patches = 4, size_t slices_kept = 100) {
    EncodeQueueOptions options;
    options.batch_patches = batch_patches;
    options.rows_capacity = slices_kept * kRowsBytes;
    queue_ = Must(EncodeQueue::Start(options, encoder_, device_, {DType::kF32, 2, 8}, vision_,
                                     Clock::Monotonic()));
  }
  // Nothing is in use once nobody wants anything: of rows the queue's end checks it.
  void TearDown() override {
    encoder_.Allow(1000);
    EXPECT_EQ(queue_->load().outstanding_slices, 0);
    queue_.reset();
    EXPECT_EQ(media_.held_bytes(), 0u);
  }

  // `columns` patches wide, all of one value.
  static std::shared_ptr<const Image> Pixels(int value, int columns = 1) {
    const int width = 14 * columns;
    return std::make_shared<const Image>(Image{
        width, 14, std::vector<uint8_t>(size_t{3} * width * 14, static_cast<uint8_t>(value))});
  }
  // A job whose slices have one patch each and are provided at once.
  int64_t SubmitProvided(const std::string& request, const std::vector<int>& values,
                         std::shared_ptr<Recorder> recorder) {
    EncodeJob job;
    job.request = request;
    for (int value : values) job.slices.push_back({absl::StrCat("slice ", value), 0});
    const int64_t id = queue_->Submit(std::move(job), std::move(recorder));
    for (size_t i = 0; i < values.size(); ++i) {
      queue_->Provide(id, static_cast<int64_t>(i), Pixels(values[i]));
    }
    return id;
  }
  EncodeJob JobOf(const std::string& bytes, bool wants_pixels = false) {
    MediaUpload upload = Must(media_.Begin("", DigestOf(bytes), bytes.size()));
    CHECK(upload.Add(0, bytes).ok());
    EncodeJob job;
    job.medium.emplace();
    job.medium->medium = Must(std::move(upload).Finish());
    SliceRule rule;
    rule.scale_resolution = 112;
    rule.max_slices = 4;
    job.medium->plan = Must(PlanSlices({static_cast<int>(job.medium->medium->info.width()),
                                        static_cast<int>(job.medium->medium->info.height())},
                                       rule));
    job.medium->wants_pixels = wants_pixels;
    for (int i = 0; i < job.medium->plan.sub_images(); ++i) {
      job.slices.push_back({absl::StrCat(DigestOf(bytes), i), i});
    }
    return job;
  }

  CpuDevice device_{"cpu:0", 1};
  Metrics metrics_;
  VisionMetrics vision_{metrics_};
  MediaStore media_{{}};
  GatedEncoder encoder_;
  std::unique_ptr<EncodeQueue> queue_;
};

TEST_F(EncodeQueueTest, RequestsTakeTurnsWhateverTheyWant) {
  Start(/*batch_patches=*/1);
  const auto first = std::make_shared<Recorder>(), second = std::make_shared<Recorder>();
  // While the first batch is held at the gate, all others queue up.
  SubmitProvided("long", {1, 2, 3, 4}, first);
  encoder_.Await(1);
  SubmitProvided("short", {11, 12}, second);
  encoder_.Allow(6);
  first->AwaitMade(4);
  second->AwaitMade(2);
  EXPECT_THAT(encoder_.batches(), ElementsAre(ElementsAre(1), ElementsAre(2), ElementsAre(11),
                                              ElementsAre(3), ElementsAre(12), ElementsAre(4)));
}

TEST_F(EncodeQueueTest, JobsOfOneRequestShareItsTurn) {
  Start(/*batch_patches=*/1);
  const auto all = std::make_shared<Recorder>();
  SubmitProvided("many", {1}, all);
  encoder_.Await(1);
  SubmitProvided("many", {2}, all);
  SubmitProvided("many", {3}, all);
  SubmitProvided("one", {11}, all);
  encoder_.Allow(4);
  all->AwaitMade(4);
  EXPECT_THAT(encoder_.batches(),
              ElementsAre(ElementsAre(1), ElementsAre(2), ElementsAre(11), ElementsAre(3)));
}

TEST_F(EncodeQueueTest, SlicesOfOneSizeAreEncodedTogetherAcrossRequests) {
  Start(/*batch_patches=*/4);
  const auto all = std::make_shared<Recorder>();
  SubmitProvided("gate", {99}, all);
  encoder_.Await(1);
  SubmitProvided("a", {1, 2, 3}, all);
  SubmitProvided("b", {11, 12}, all);
  const int64_t wide = queue_->Submit({"c", {{"wide", 0}}, std::nullopt}, all);
  queue_->Provide(wide, 0, Pixels(21, /*columns=*/2));
  encoder_.Allow(4);
  all->AwaitMade(7);
  EXPECT_THAT(encoder_.batches(), ElementsAre(ElementsAre(99), ElementsAre(1, 11, 2, 12),
                                              ElementsAre(21), ElementsAre(3)));
}

TEST_F(EncodeQueueTest, RowsThatTwoWantAreMadeOnceAndFoundLater) {
  Start();
  const auto first = std::make_shared<Recorder>(), second = std::make_shared<Recorder>(),
             third = std::make_shared<Recorder>();
  SubmitProvided("a", {5}, first);
  encoder_.Await(1);
  SubmitProvided("b", {5}, second);
  encoder_.Allow(1);
  first->AwaitMade(1);
  second->AwaitMade(1);
  SubmitProvided("c", {5}, third);
  EXPECT_THAT(first->made(), ElementsAre(std::pair(0, 5.0f)));
  EXPECT_THAT(second->made(), ElementsAre(std::pair(0, 5.0f)));
  EXPECT_THAT(third->found(), ElementsAre(std::pair(0, 5.0f)));
  EXPECT_EQ(encoder_.batches().size(), 1u);
  EXPECT_EQ(vision_.slices.Value(), 1);
  EXPECT_EQ(vision_.rows_queries.Value(), 3);
  EXPECT_EQ(vision_.rows_hits.Value(), 1);
}

TEST_F(EncodeQueueTest, AMediumThatTwoWantIsOpenedOnceAndItsSlicesAreMadeOnce) {
  Start(/*batch_patches=*/1);
  const auto first = std::make_shared<Recorder>(), second = std::make_shared<Recorder>();
  queue_->Submit(JobOf(SlicedPicture()), first);
  queue_->Submit(JobOf(SlicedPicture()), second);
  encoder_.Allow(5);
  first->AwaitMade(5);
  second->AwaitMade(5);
  EXPECT_EQ(encoder_.batches().size(), 5u);
  EXPECT_EQ(first->opened() + second->opened(), 5u);
}

TEST_F(EncodeQueueTest, WhoWaitsForAnothersPixelsOpensTheMediumWhenThatOneIsGone) {
  Start(/*batch_patches=*/1);
  const auto first = std::make_shared<Recorder>(), second = std::make_shared<Recorder>();
  const int64_t job = queue_->Submit(JobOf(SlicedPicture()), first);
  first->AwaitOpened();
  encoder_.Await(1);
  queue_->Submit(JobOf(SlicedPicture()), second);
  queue_->Drop(job);
  encoder_.Allow(5);
  second->AwaitMade(5);
  EXPECT_EQ(second->opened(), 5u);
  EXPECT_EQ(encoder_.batches().size(), 5u);
}

TEST_F(EncodeQueueTest, PixelsAreToldWhereAllRowsAreKnown) {
  Start();
  const auto first = std::make_shared<Recorder>(), second = std::make_shared<Recorder>();
  encoder_.Allow(100);
  queue_->Submit(JobOf(SlicedPicture()), first);
  first->AwaitMade(5);
  queue_->Submit(JobOf(SlicedPicture(), /*wants_pixels=*/true), second);
  second->AwaitOpened();
  EXPECT_EQ(second->found().size(), 5u);
}

TEST_F(EncodeQueueTest, ADroppedJobEncodesNothingAfterTheBatchInHand) {
  Start(/*batch_patches=*/1);
  const auto dropped = std::make_shared<Recorder>(), other = std::make_shared<Recorder>();
  const int64_t job = SubmitProvided("a", {1, 2, 3}, dropped);
  encoder_.Await(1);
  queue_->Drop(job);
  queue_->Drop(job);
  SubmitProvided("b", {11}, other);
  encoder_.Allow(2);
  other->AwaitMade(1);
  EXPECT_THAT(encoder_.batches(), ElementsAre(ElementsAre(1), ElementsAre(11)));
  EXPECT_TRUE(dropped->made().empty());
}

TEST_F(EncodeQueueTest, WaitsWhilePinnedRowsLeaveNoRoom) {
  Start(/*batch_patches=*/4, /*slices_kept=*/2);
  const auto slow = std::make_shared<Recorder>(), other = std::make_shared<Recorder>();
  slow->KeepRows();
  encoder_.Allow(100);
  SubmitProvided("slow", {1, 2}, slow);
  slow->AwaitMade(2);
  SubmitProvided("other", {11, 12, 13}, other);
  EXPECT_TRUE(other->made().empty());
  EXPECT_EQ(queue_->load().outstanding_slices, 3);
  slow->LetGo();
  other->AwaitMade(3);
  EXPECT_THAT(other->made(),
              UnorderedElementsAre(std::pair(0, 11.0f), std::pair(1, 12.0f), std::pair(2, 13.0f)));
}

TEST_F(EncodeQueueTest, ABatchThatFailsEndsItsJobsAndNoOthers) {
  Start(/*batch_patches=*/1);
  const auto failed = std::make_shared<Recorder>(), other = std::make_shared<Recorder>();
  encoder_.FailNext(absl::ResourceExhaustedError("no memory"));
  SubmitProvided("a", {1, 2}, failed);
  encoder_.Await(1);
  SubmitProvided("b", {11}, other);
  encoder_.Allow(100);
  failed->AwaitFailed();
  other->AwaitMade(1);
  EXPECT_TRUE(absl::IsResourceExhausted(failed->status()));
  EXPECT_THAT(encoder_.batches(), ElementsAre(ElementsAre(1), ElementsAre(11)));
}

TEST_F(EncodeQueueTest, ADamagedMediumEndsItsJobWithTheReason) {
  Start();
  const auto failed = std::make_shared<Recorder>();
  const std::string whole = SlicedPicture();
  queue_->Submit(JobOf(whole.substr(0, whole.size() / 2)), failed);
  failed->AwaitFailed();
  EXPECT_TRUE(absl::IsInvalidArgument(failed->status())) << failed->status();
  EXPECT_EQ(ReasonOf(failed->status()), "DAMAGED_MEDIUM");
}

TEST_F(EncodeQueueTest, TellsItsLoad) {
  Start(/*batch_patches=*/1);
  EXPECT_EQ(queue_->load().rate, 0);
  const auto recorder = std::make_shared<Recorder>();
  SubmitProvided("a", {1, 2}, recorder);
  encoder_.Await(1);
  SubmitProvided("b", {11}, recorder);
  const EncodeLoad load = queue_->load();
  EXPECT_EQ(load.outstanding_slices, 3);
  EXPECT_EQ(load.waiting_jobs, 1);
  EXPECT_TRUE(load.step_age.has_value());
  encoder_.Allow(3);
  recorder->AwaitMade(3);
  EXPECT_GT(queue_->load().rate, 0);
  EXPECT_EQ(queue_->load().waiting_jobs, 0);
}

}  // namespace
}  // namespace minicpmv::vision
