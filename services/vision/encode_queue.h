#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "runtime/base/clock.h"
#include "runtime/media/image.h"
#include "runtime/media/slicing.h"
#include "services/vision/media_store.h"
#include "services/vision/rows_cache.h"
#include "services/vision/slice_encoder.h"
#include "services/vision/vision_metrics.h"

namespace minicpmv::vision {

// A medium's sub-images in the order of its plan. Shared, for whichever parcel or batch looks last
// decides how long they are kept. The queue outlives them.
using SubImages = std::shared_ptr<const std::vector<Image>>;

// A slice whose rows are wanted.
struct WantedSlice {
  std::string key;    // of its rows: RowsKeyOf
  int sub_image = 0;  // of the plan
};

// A medium that is held here, and how to look at it.
struct MediumToOpen {
  MediaStore::Pin medium;
  Exif exif = Exif::kApply;
  SlicePlan plan;
  // OnOpened is wanted although all rows may be known.
  bool wants_pixels = false;
};

struct EncodeJob {
  // Jobs of one request take their turns together.
  std::string request;
  std::vector<WantedSlice> slices;
  std::optional<MediumToOpen> medium;  // nothing: the pixels are provided
};

// Sees one job. Called on the queue's threads and on the one that submits, also at the same time;
// must not block. What was under way when the job was dropped or failed may still be called.
class EncodeObserver {
 public:
  virtual ~EncodeObserver() = default;
  // The medium was decoded, resized and cut from `start` to `end`. At most once, and before rows
  // are made of these pixels.
  virtual void OnOpened(SubImages sub_images, absl::Time start, absl::Time end) = 0;
  // Rows of slices[slice]; once for each. They were found, or made from `start` to `end`.
  virtual void OnRowsFound(int64_t slice, RowsCache::Pin rows) = 0;
  virtual void OnRowsMade(int64_t slice, RowsCache::Pin rows, absl::Time start, absl::Time end) = 0;
  // The medium is damaged (INVALID_ARGUMENT; see RejectionOf), or memory ran out.
  virtual void OnFailed(const absl::Status& status) = 0;
};

struct EncodeQueueOptions {
  int patch_size = 14;
  int64_t batch_patches = 1024;  // slices of one size are encoded together up to this
  int open_media = 4;            // media whose pixels are held at once
  ImageLimits image;
  size_t rows_capacity = 256 << 20;  // bytes of rows that are kept or on their way
};

struct EncodeLoad {
  int64_t waiting_jobs = 0;        // nothing has been done for them yet
  int64_t outstanding_slices = 0;  // that have to be encoded
  double rate = 0;                 // slices a second; 0: none was encoded yet
  // Of the batch that is being encoded.
  std::optional<absl::Duration> step_age;
  absl::Duration predicted_step;  // zero: nothing to predict from
};

// Decodes media on one thread and encodes slices on another: one batch at a time, requests taking
// turns, slices of one size together whosever they are. Rows that several jobs want are made once.
// Between two batches a job may be dropped. Thread-safe.
class EncodeQueue {
 public:
  // All outlive it. Errors of RowsCache::Create.
  static absl::StatusOr<std::unique_ptr<EncodeQueue>> Start(const EncodeQueueOptions& options,
                                                            SliceEncoder& encoder, Device& device,
                                                            const RowsShape& shape,
                                                            VisionMetrics& metrics,
                                                            const Clock& clock);
  // Waits for the batch in hand. No pin on rows is left.
  ~EncodeQueue();

  // Rows that are known are told before this returns. Of a job that was told of all of its slices
  // (and of its pixels, where it wants them) nothing is left.
  int64_t Submit(EncodeJob job, std::shared_ptr<EncodeObserver> observer);
  // Pixels of slices[slice] of a job without a medium.
  void Provide(int64_t job, int64_t slice, std::shared_ptr<const Image> pixels);
  // Nobody waits for it any more; also where it has ended.
  void Drop(int64_t job);

  EncodeLoad load() const;
  const RowsCache& rows() const { return *rows_; }

 private:
  struct Wish {
    int64_t job = 0;
    int64_t slice = 0;
  };
  // Rows that are to be made.
  struct Task {
    std::vector<Wish> wishes;
    bool is_encoding = false;
  };
  struct Slice {
    WantedSlice wanted;
    std::shared_ptr<const Image> provided;
    bool is_done = false;
  };
  struct Job {
    std::string request;
    std::vector<Slice> slices;
    int64_t undone = 0;  // slices
    std::optional<MediumToOpen> medium;
    enum class Medium { kClosed, kOpening, kOpen } state = Medium::kClosed;
    SubImages sub_images;  // kOpen
    bool has_begun = false;
    std::shared_ptr<EncodeObserver> observer;
  };
  using Jobs = std::map<int64_t, Job>;
  struct Piece {  // of a batch
    std::string key, request;
    std::shared_ptr<const Image> pixels;
    RowsCache::Place place;
  };
  // What is destroyed, and who is called, once the lock is free.
  struct Aftermath;

  EncodeQueue(const EncodeQueueOptions& options, SliceEncoder& encoder, VisionMetrics& metrics,
              const Clock& clock);

  void OpenMedia();
  void EncodeSlices();

  // With the lock held.
  Jobs::iterator NextToOpen();
  bool NeedsOpening(int64_t id, const Job& job) const;
  std::shared_ptr<const Image> PixelsOf(const Task& task) const;
  std::vector<Piece> NextBatch();
  void EndJob(Jobs::iterator job, Aftermath& after);
  void FailJob(Jobs::iterator job, const absl::Status& status, Aftermath& after);
  void EndIfDone(Jobs::iterator job, Aftermath& after);
  void Settle(absl::Span<const Piece> pieces, const absl::Status& status,
              absl::Span<const RowsCache::Pin> rows, absl::Time start, absl::Time end,
              Aftermath& after);
  void PutBack(absl::Span<const Piece> pieces);

  // Without it.
  absl::StatusOr<SubImages> Open(const MediumToOpen& medium, absl::string_view request);
  // False: rows that are pinned leave no room for even one slice.
  bool EncodeBatch(std::vector<Piece> pieces);
  void OnRoom();

  const EncodeQueueOptions options_;
  SliceEncoder& encoder_;
  VisionMetrics& metrics_;
  const Clock& clock_;
  std::unique_ptr<RowsCache> rows_;

  mutable std::mutex mutex_;
  std::condition_variable opener_wakes_, encoder_wakes_;
  Jobs jobs_;  // guarded by mutex_, like all below
  int64_t last_job_ = 0;
  absl::flat_hash_map<std::string, Task> tasks_;  // by key of rows
  // Requests that have jobs, in the order of their turns, with how many.
  std::list<std::pair<std::string, int64_t>> turns_;
  int open_media_ = 0;  // SubImages that live, and media being opened
  int64_t room_count_ = 0;
  double seconds_per_patch_ = 0, rate_ = 0;
  std::optional<absl::Time> step_start_;
  int64_t step_patches_ = 0;
  bool stop_ = false;

  std::thread opener_, encoder_thread_;
};

}  // namespace minicpmv::vision
