#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "runtime/base/clock.h"
#include "services/common/post_thread.h"

namespace minicpmv::router {

// The bytes of media that clients sent, for as long as a request needs them: in memory, and beyond
// a bound in unlinked temporary files, so that a worker which lost its copy can be given another.
// Media are known by cache scope and SHA-256; one scope never finds another's. Thread-safe; files
// are touched by one thread of its own.
class MediaBytes {
 public:
  struct Limits {
    int64_t one_medium = int64_t{64} << 20;
    int64_t arriving = int64_t{256} << 20;  // not complete yet, or on the way to a file
    int64_t memory = int64_t{512} << 20;
    int64_t files = int64_t{4} << 30;
    absl::Duration kept_for = absl::Minutes(10);  // what was uploaded, after its last use
    std::string folder = "/tmp";                  // of the files
  };

 private:
  struct Entry;

 public:
  explicit MediaBytes(const Limits& limits, const Clock& clock = Clock::Monotonic());
  ~MediaBytes();
  MediaBytes(const MediaBytes&) = delete;
  MediaBytes& operator=(const MediaBytes&) = delete;

  // Room for bytes that are about to arrive; given back at its end. Ends before MediaBytes does.
  class Room {
   public:
    ~Room();
    Room(const Room&) = delete;
    Room& operator=(const Room&) = delete;

   private:
    friend class MediaBytes;
    Room(MediaBytes& owner, int64_t bytes) : owner_(owner), bytes_(bytes) {}
    MediaBytes& owner_;
    int64_t bytes_;
  };
  // INVALID_ARGUMENT: more than one medium may have. RESOURCE_EXHAUSTED: come again later.
  absl::StatusOr<std::unique_ptr<Room>> Reserve(uint64_t bytes);

  // One medium, held in place until this ends. Cheap to look at from any thread. Ends before
  // MediaBytes does.
  class Medium {
   public:
    ~Medium();
    Medium(const Medium&) = delete;
    Medium& operator=(const Medium&) = delete;
    const std::string& digest() const;  // 32 bytes
    uint64_t size() const;

    // The bytes, where they are in memory to stay; null where they are in a file.
    std::shared_ptr<const std::string> InMemory() const;

    using Loaded = std::function<void(absl::StatusOr<std::shared_ptr<const std::string>>)>;
    // Hands over the bytes: before it returns where they are in memory, else on the files' thread,
    // which it must not block. DATA_LOSS: the file cannot be read.
    void Load(Loaded loaded) const;

   private:
    friend class MediaBytes;
    Medium(MediaBytes& owner, std::shared_ptr<Entry> entry)
        : owner_(owner), entry_(std::move(entry)) {}
    MediaBytes& owner_;
    const std::shared_ptr<Entry> entry_;
  };
  using Held = std::shared_ptr<const Medium>;

  // Keeps bytes whose SHA-256 is `digest`. RESOURCE_EXHAUSTED: come again later.
  absl::StatusOr<Held> Keep(absl::string_view scope, absl::string_view digest, std::string bytes,
                            std::unique_ptr<Room> room);
  // Nothing where they are not kept.
  Held Find(absl::string_view scope, absl::string_view digest);
  // By handle. NOT_FOUND: never uploaded in this scope, or kept no longer.
  absl::StatusOr<Held> FindHandle(absl::string_view scope, absl::string_view handle);

  // Keeps it for `kept_for` from now on, and after each use, though nobody holds it.
  std::string Publish(const Held& medium);
  absl::Duration kept_for() const { return limits_.kept_for; }

  // Bytes in memory and in files.
  std::pair<int64_t, int64_t> used() const;

 private:
  using Key = std::pair<std::string, std::string>;  // scope, digest

  Held Hold(std::shared_ptr<Entry> entry);  // mutex_ is held
  void LetGo(const std::shared_ptr<Entry>& entry);
  void Erase(std::map<Key, std::shared_ptr<Entry>>::iterator place);  // mutex_ is held
  void DropWhatIsOver();                                              // mutex_ is held
  void Write(const std::shared_ptr<Entry>& entry, std::unique_ptr<Room> room);

  const Limits limits_;
  const Clock& clock_;
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::map<Key, std::shared_ptr<Entry>> entries_;
  int64_t arriving_ = 0, memory_ = 0, files_ = 0;
  absl::Time next_drop_ = absl::InfinitePast();

  PostThread thread_;  // reads and writes files; last: it uses all of the above
};

// SHA-256.
std::string DigestOf(absl::string_view bytes);

}  // namespace minicpmv::router
