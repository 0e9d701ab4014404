#include "services/vision/encode_queue.h"

#include <algorithm>
#include <new>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/memory/memory.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "services/common/test_points.h"

namespace minicpmv::vision {
namespace {

// How much the newest batch weighs in a measured rate.
constexpr double kNewest = 0.25;

void Blend(double newest, double& mean) {
  mean = mean == 0 ? newest : (1 - kNewest) * mean + kNewest * newest;
}

}  // namespace

struct EncodeQueue::Aftermath {
  std::vector<absl::AnyInvocable<void()>> calls;
  std::vector<Job> ended;
  std::vector<std::shared_ptr<const Image>> unused;

  void Run() {
    for (absl::AnyInvocable<void()>& call : calls) call();
  }
};

EncodeQueue::EncodeQueue(const EncodeQueueOptions& options, SliceEncoder& encoder,
                         VisionMetrics& metrics, const Clock& clock)
    : options_(options), encoder_(encoder), metrics_(metrics), clock_(clock) {}

absl::StatusOr<std::unique_ptr<EncodeQueue>> EncodeQueue::Start(
    const EncodeQueueOptions& options, SliceEncoder& encoder, Device& device,
    const RowsShape& shape, VisionMetrics& metrics, const Clock& clock) {
  auto queue = absl::WrapUnique(new EncodeQueue(options, encoder, metrics, clock));
  EncodeQueue* const lent = queue.get();
  ASSIGN_OR_RETURN(queue->rows_, RowsCache::Create(device, shape, options.rows_capacity,
                                                   [lent] { lent->OnRoom(); }));
  queue->opener_ = std::thread([lent] { lent->OpenMedia(); });
  queue->encoder_thread_ = std::thread([lent] { lent->EncodeSlices(); });
  return queue;
}

EncodeQueue::~EncodeQueue() {
  Jobs left;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    left.swap(jobs_);
    tasks_.clear();
  }
  opener_wakes_.notify_all();
  encoder_wakes_.notify_all();
  if (opener_.joinable()) opener_.join();
  if (encoder_thread_.joinable()) encoder_thread_.join();
  left.clear();
  CHECK_EQ(open_media_, 0);
}

int64_t EncodeQueue::Submit(EncodeJob wanted, std::shared_ptr<EncodeObserver> observer) {
  Aftermath after;
  int64_t id = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    id = ++last_job_;
    const auto job = jobs_.try_emplace(id).first;
    job->second.request = std::move(wanted.request);
    job->second.medium = std::move(wanted.medium);
    job->second.observer = std::move(observer);
    const auto turn = std::find_if(turns_.begin(), turns_.end(), [&](const auto& other) {
      return other.first == job->second.request;
    });
    if (turn == turns_.end()) {
      turns_.emplace_back(job->second.request, 1);
    } else {
      ++turn->second;
    }
    for (WantedSlice& slice : wanted.slices) {
      const int64_t index = static_cast<int64_t>(job->second.slices.size());
      Slice& added = job->second.slices.emplace_back();
      added.wanted = std::move(slice);
      // Rows are cached before their task ends: with the lock held it is one or the other.
      RowsCache::Pin found = rows_->Find(added.wanted.key);
      metrics_.rows_queries.Increment();
      if (found) {
        metrics_.rows_hits.Increment();
        added.is_done = true;
        job->second.has_begun = true;
        after.calls.push_back(
            [observer = job->second.observer, index, rows = std::move(found)]() mutable {
              observer->OnRowsFound(index, std::move(rows));
            });
        continue;
      }
      ++job->second.undone;
      tasks_[added.wanted.key].wishes.push_back({id, index});
    }
    EndIfDone(job, after);
  }
  opener_wakes_.notify_one();
  after.Run();
  return id;
}

void EncodeQueue::Provide(int64_t job, int64_t slice, std::shared_ptr<const Image> pixels) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = jobs_.find(job);
    if (found == jobs_.end()) return;
    Slice& place = found->second.slices[static_cast<size_t>(slice)];
    if (place.is_done) return;
    place.provided.swap(pixels);
  }
  encoder_wakes_.notify_one();
}

void EncodeQueue::Drop(int64_t job) {
  Aftermath after;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = jobs_.find(job);
    if (found == jobs_.end()) return;
    EndJob(found, after);
  }
  // Another job may have counted on this one's pixels.
  opener_wakes_.notify_one();
}

EncodeLoad EncodeQueue::load() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  EncodeLoad load;
  for (const auto& [id, job] : jobs_) load.waiting_jobs += job.has_begun ? 0 : 1;
  load.outstanding_slices = static_cast<int64_t>(tasks_.size());
  load.rate = rate_;
  if (step_start_) {
    load.step_age = clock_.Now() - *step_start_;
    load.predicted_step = absl::Seconds(seconds_per_patch_ * static_cast<double>(step_patches_));
  }
  return load;
}

// --- With the lock held.

void EncodeQueue::EndJob(Jobs::iterator job, Aftermath& after) {
  for (const Slice& slice : job->second.slices) {
    if (slice.is_done) continue;
    const auto task = tasks_.find(slice.wanted.key);
    if (task == tasks_.end()) continue;
    std::vector<Wish>& wishes = task->second.wishes;
    wishes.erase(std::remove_if(wishes.begin(), wishes.end(),
                                [&](const Wish& wish) { return wish.job == job->first; }),
                 wishes.end());
    // A batch in hand ends its tasks itself.
    if (wishes.empty() && !task->second.is_encoding) tasks_.erase(task);
  }
  const auto turn = std::find_if(turns_.begin(), turns_.end(), [&](const auto& other) {
    return other.first == job->second.request;
  });
  if (--turn->second == 0) turns_.erase(turn);
  after.ended.push_back(std::move(job->second));
  jobs_.erase(job);
}

void EncodeQueue::FailJob(Jobs::iterator job, const absl::Status& status, Aftermath& after) {
  after.calls.push_back([observer = job->second.observer, status] { observer->OnFailed(status); });
  EndJob(job, after);
}

void EncodeQueue::EndIfDone(Jobs::iterator job, Aftermath& after) {
  const Job& it = job->second;
  if (it.undone > 0) return;
  if (it.medium && it.medium->wants_pixels && it.state != Job::Medium::kOpen) return;
  EndJob(job, after);
}

bool EncodeQueue::NeedsOpening(int64_t id, const Job& job) const {
  if (!job.medium || job.state != Job::Medium::kClosed) return false;
  if (job.medium->wants_pixels) return true;
  // Not where others have the pixels of all that it wants, or soon will.
  return std::any_of(job.slices.begin(), job.slices.end(), [&](const Slice& slice) {
    if (slice.is_done) return false;
    const Task& task = tasks_.at(slice.wanted.key);
    if (task.is_encoding) return false;
    return std::none_of(task.wishes.begin(), task.wishes.end(), [&](const Wish& wish) {
      if (wish.job == id) return false;
      const Job& other = jobs_.at(wish.job);
      return other.state != Job::Medium::kClosed ||
             other.slices[static_cast<size_t>(wish.slice)].provided != nullptr;
    });
  });
}

EncodeQueue::Jobs::iterator EncodeQueue::NextToOpen() {
  if (open_media_ >= options_.open_media) return jobs_.end();
  // The request that has the fewest open, so that nobody waits for somebody's sixty-four pictures.
  absl::flat_hash_map<absl::string_view, int64_t> open;
  for (const auto& [id, job] : jobs_) {
    if (job.state != Job::Medium::kClosed) ++open[job.request];
  }
  auto next = jobs_.end();
  for (auto job = jobs_.begin(); job != jobs_.end(); ++job) {
    if (!NeedsOpening(job->first, job->second)) continue;
    if (next == jobs_.end() || open[job->second.request] < open[next->second.request]) next = job;
  }
  return next;
}

std::shared_ptr<const Image> EncodeQueue::PixelsOf(const Task& task) const {
  for (const Wish& wish : task.wishes) {
    const Job& job = jobs_.at(wish.job);
    const Slice& slice = job.slices[static_cast<size_t>(wish.slice)];
    if (slice.provided != nullptr) return slice.provided;
    if (job.sub_images != nullptr) {
      return {job.sub_images, &(*job.sub_images)[static_cast<size_t>(slice.wanted.sub_image)]};
    }
  }
  return nullptr;
}

std::vector<EncodeQueue::Piece> EncodeQueue::NextBatch() {
  // What each request could have encoded now, in the order of turns.
  absl::flat_hash_map<absl::string_view, size_t> turn_of;
  for (const auto& turn : turns_) turn_of.emplace(turn.first, turn_of.size());
  std::vector<std::vector<Piece>> ready(turns_.size());
  for (const auto& [id, job] : jobs_) {
    std::vector<Piece>& list = ready[turn_of.at(job.request)];
    for (const Slice& slice : job.slices) {
      if (slice.is_done) continue;
      const Task& task = tasks_.at(slice.wanted.key);
      if (task.is_encoding) continue;
      std::shared_ptr<const Image> pixels = PixelsOf(task);
      if (pixels == nullptr) continue;
      list.push_back({slice.wanted.key, job.request, std::move(pixels), {}});
    }
  }

  std::vector<Piece> batch;
  int64_t room = options_.batch_patches;
  const auto take = [&](Piece& piece) {
    Task& task = tasks_.at(piece.key);
    if (task.is_encoding) return;  // wanted twice
    task.is_encoding = true;
    for (const Wish& wish : task.wishes) jobs_.at(wish.job).has_begun = true;
    room -= int64_t{piece.pixels->width / options_.patch_size} *
            (piece.pixels->height / options_.patch_size);
    batch.push_back(std::move(piece));
  };
  const auto first =
      std::find_if(ready.begin(), ready.end(), [](const auto& list) { return !list.empty(); });
  if (first == ready.end()) return batch;
  take(first->front());
  const std::shared_ptr<const Image> head = batch.front().pixels;
  const int64_t patches = options_.batch_patches - room;
  for (std::vector<Piece>& list : ready) {
    list.erase(std::remove_if(list.begin(), list.end(),
                              [&](const Piece& piece) {
                                return piece.pixels == nullptr ||
                                       piece.pixels->width != head->width ||
                                       piece.pixels->height != head->height;
                              }),
               list.end());
  }
  // One of each in turn, from the one behind the first.
  const size_t begin = static_cast<size_t>(first - ready.begin()) + 1;
  bool has_more = true;
  for (size_t round = 0; has_more && room >= patches; ++round) {
    has_more = false;
    for (size_t i = 0; i < ready.size() && room >= patches; ++i) {
      std::vector<Piece>& list = ready[(begin + i) % ready.size()];
      if (round >= list.size()) continue;
      take(list[round]);
      has_more = true;
    }
  }
  // Whoever led this batch waits for all others to lead one.
  const auto turn = std::next(turns_.begin(), first - ready.begin());
  turns_.splice(turns_.end(), turns_, turn);
  return batch;
}

void EncodeQueue::PutBack(absl::Span<const Piece> pieces) {
  for (const Piece& piece : pieces) {
    const auto task = tasks_.find(piece.key);
    if (task == tasks_.end()) continue;
    task->second.is_encoding = false;
    if (task->second.wishes.empty()) tasks_.erase(task);
  }
}

void EncodeQueue::Settle(absl::Span<const Piece> pieces, const absl::Status& status,
                         absl::Span<const RowsCache::Pin> rows, absl::Time start, absl::Time end,
                         Aftermath& after) {
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto task = tasks_.find(pieces[i].key);
    if (task == tasks_.end()) continue;
    const std::vector<Wish> wishes = task->second.wishes;
    for (const Wish& wish : wishes) {
      const auto job = jobs_.find(wish.job);
      if (job == jobs_.end()) continue;  // it has failed with an earlier piece
      if (!status.ok()) {
        FailJob(job, status, after);
        continue;
      }
      Slice& slice = job->second.slices[static_cast<size_t>(wish.slice)];
      slice.is_done = true;
      after.unused.push_back(std::move(slice.provided));
      --job->second.undone;
      after.calls.push_back(
          [observer = job->second.observer, index = wish.slice, pin = rows[i].Again(), start,
           end]() mutable { observer->OnRowsMade(index, std::move(pin), start, end); });
      EndIfDone(job, after);
    }
    // By name: a failed job may have taken other tasks with it.
    tasks_.erase(pieces[i].key);
  }
}

// --- The two threads.

void EncodeQueue::OnRoom() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++room_count_;
  }
  encoder_wakes_.notify_one();
}

absl::StatusOr<SubImages> EncodeQueue::Open(const MediumToOpen& medium, absl::string_view request) {
  TestPoint("vision.media", request);
  const std::string& bytes = medium.medium->bytes;
  absl::StatusOr<Image> image = DecodeImage(
      {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, medium.exif, options_.image);
  if (!image.ok()) return RejectionOf(image.status());
  try {
    auto sub_images = std::make_unique<std::vector<Image>>(CutSubImages(*image, medium.plan));
    return SubImages(sub_images.release(), [this](const std::vector<Image>* pixels) {
      delete pixels;
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        --open_media_;
      }
      opener_wakes_.notify_one();
    });
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for the slices of a medium");
  }
}

void EncodeQueue::OpenMedia() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stop_) {
    const auto next = NextToOpen();
    if (next == jobs_.end()) {
      opener_wakes_.wait(lock);
      continue;
    }
    const int64_t id = next->first;
    next->second.state = Job::Medium::kOpening;
    next->second.has_begun = true;
    ++open_media_;
    // Own ones: the job may be dropped meanwhile.
    const std::string request = next->second.request;
    const std::shared_ptr<EncodeObserver> observer = next->second.observer;
    std::optional<MediumToOpen> medium(MediumToOpen{
        next->second.medium->medium.Again(), next->second.medium->exif, next->second.medium->plan});
    lock.unlock();

    const absl::Time start = clock_.Now();
    absl::StatusOr<SubImages> opened = Open(*medium, request);
    const absl::Time end = clock_.Now();
    medium.reset();
    metrics_.media_decode_seconds.Observe(absl::ToDoubleSeconds(end - start));
    if (opened.ok()) {
      observer->OnOpened(*opened, start, end);
    } else {
      metrics_.CountReject(opened.status());
    }
    {
      Aftermath after;
      lock.lock();
      if (!opened.ok()) --open_media_;
      const auto job = jobs_.find(id);
      if (job == jobs_.end()) {
        // Dropped meanwhile.
      } else if (!opened.ok()) {
        FailJob(job, opened.status(), after);
      } else {
        job->second.state = Job::Medium::kOpen;
        job->second.sub_images = *opened;
        EndIfDone(job, after);
      }
      lock.unlock();
      encoder_wakes_.notify_one();
      after.Run();
    }
    opened = SubImages();
    lock.lock();
  }
}

void EncodeQueue::EncodeSlices() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stop_) {
    const int64_t room = room_count_;
    std::vector<Piece> batch = NextBatch();
    if (batch.empty()) {
      encoder_wakes_.wait(lock);
      continue;
    }
    lock.unlock();
    const bool had_room = EncodeBatch(std::move(batch));
    lock.lock();
    if (!had_room) encoder_wakes_.wait(lock, [&] { return stop_ || room_count_ != room; });
  }
}

bool EncodeQueue::EncodeBatch(std::vector<Piece> pieces) {
  absl::Status status;
  size_t placed = 0;
  for (Piece& piece : pieces) {
    absl::StatusOr<std::optional<RowsCache::Place>> place = rows_->Reserve();
    if (!place.ok()) status = place.status();
    if (!place.ok() || !*place) break;
    piece.place = *std::move(*place);
    ++placed;
  }
  if (placed > 0) status = absl::OkStatus();  // the others have their turn later
  const absl::Span<const Piece> all(pieces);
  const absl::Span<const Piece> now = status.ok() ? all.subspan(0, placed) : all;
  int64_t patches = 0;
  for (const Piece& piece : now) {
    patches += int64_t{piece.pixels->width / options_.patch_size} *
               (piece.pixels->height / options_.patch_size);
  }
  const absl::Time start = clock_.Now();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    PutBack(all.subspan(now.size()));
    if (now.empty()) return false;
    step_start_ = start;
    step_patches_ = patches;
  }

  if (status.ok()) {
    TestPoint("vision.encode", now.front().request);
    std::vector<const Image*> slices;
    std::vector<TensorView> rows;
    for (const Piece& piece : now) {
      slices.push_back(piece.pixels.get());
      rows.push_back(piece.place.rows.view);
    }
    status = encoder_.Encode(slices, rows);
  }
  const absl::Time end = clock_.Now();

  std::vector<RowsCache::Pin> made;
  if (status.ok()) {
    for (size_t i = 0; i < placed; ++i) {
      made.push_back(rows_->Insert(pieces[i].key, std::move(pieces[i].place)));
    }
    metrics_.slices.Increment(static_cast<double>(placed));
    metrics_.batch_slices.Observe(static_cast<double>(placed));
    metrics_.step_seconds.Observe(absl::ToDoubleSeconds(end - start));
    metrics_.rows_bytes.Set(static_cast<double>(rows_->bytes()));
  }
  Aftermath after;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    step_start_.reset();
    if (const double seconds = absl::ToDoubleSeconds(end - start); status.ok() && seconds > 0) {
      Blend(seconds / static_cast<double>(patches), seconds_per_patch_);
      Blend(static_cast<double>(placed) / seconds, rate_);
    }
    Settle(now, status, made, start, end, after);
  }
  opener_wakes_.notify_one();
  after.Run();
  return true;
}

}  // namespace minicpmv::vision
