#include "services/router/media_bytes.h"

#include <openssl/sha.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "runtime/base/check.h"
#include "runtime/base/hidden_file.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"
#include "services/common/status_proto.h"

namespace minicpmv::router {
namespace {

constexpr absl::string_view kHandlePrefix = "media-";
constexpr absl::Duration kRetryDelay = absl::Seconds(1);
constexpr absl::Duration kBetweenDrops = absl::Seconds(1);

absl::Status NoRoom(absl::string_view what) {
  return WithReason(
      WithRetryAfter(absl::ResourceExhaustedError(absl::StrCat("no room for media now: ", what)),
                     kRetryDelay),
      "MEDIA_FULL");
}

absl::StatusOr<HiddenFile> WriteHidden(const std::string& folder, absl::string_view bytes) {
  ASSIGN_OR_RETURN(HiddenFile file, HiddenFile::Create(folder));
  RETURN_IF_ERROR(file.Append(bytes));
  return file;
}

}  // namespace

std::string DigestOf(absl::string_view bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(),
         reinterpret_cast<uint8_t*>(digest.data()));
  return digest;
}

struct MediaBytes::Entry {
  Key key;
  uint64_t size = 0;
  // Guarded by the owner's mutex.
  std::shared_ptr<const std::string> bytes;  // null once they are in the file alone
  std::shared_ptr<const HiddenFile> file;
  bool in_files = false;  // which account they are on
  int64_t arriving = 0;   // of the bytes that should be in a file, and could not be written
  bool is_erased = false;
  int64_t holders = 0;
  absl::Time kept_until = absl::InfinitePast();
  bool is_published = false;
};

MediaBytes::MediaBytes(const Limits& limits, const Clock& clock) : limits_(limits), clock_(clock) {}

MediaBytes::~MediaBytes() = default;

MediaBytes::Room::~Room() {
  const std::lock_guard<std::mutex> lock(owner_.mutex_);
  owner_.arriving_ -= bytes_;
}

absl::StatusOr<std::unique_ptr<MediaBytes::Room>> MediaBytes::Reserve(uint64_t bytes) {
  if (bytes > static_cast<uint64_t>(limits_.one_medium)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a medium of ", bytes, " bytes; at most ", limits_.one_medium, " are taken"));
  }
  const auto size = static_cast<int64_t>(bytes);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (size > limits_.arriving - arriving_) return NoRoom("many arrive at once");
  arriving_ += size;
  return std::unique_ptr<Room>(new Room(*this, size));
}

const std::string& MediaBytes::Medium::digest() const { return entry_->key.second; }
uint64_t MediaBytes::Medium::size() const { return entry_->size; }
MediaBytes::Medium::~Medium() { owner_.LetGo(entry_); }

std::shared_ptr<const std::string> MediaBytes::Medium::InMemory() const {
  const std::lock_guard<std::mutex> lock(owner_.mutex_);
  return entry_->in_files ? nullptr : entry_->bytes;
}

void MediaBytes::Medium::Load(Loaded loaded) const {
  std::shared_ptr<const std::string> bytes;
  std::shared_ptr<const HiddenFile> file;
  {
    const std::lock_guard<std::mutex> lock(owner_.mutex_);
    bytes = entry_->bytes;
    file = entry_->file;
  }
  if (bytes != nullptr) return loaded(std::move(bytes));
  owner_.thread_.Post([file = std::move(file), size = entry_->size, loaded = std::move(loaded)] {
    absl::StatusOr<std::string> read = file->Read(0, size);
    if (!read.ok()) return loaded(read.status());
    loaded(std::make_shared<const std::string>(*std::move(read)));
  });
}

MediaBytes::Held MediaBytes::Hold(std::shared_ptr<Entry> entry) {
  ++entry->holders;
  return Held(new Medium(*this, std::move(entry)));
}

void MediaBytes::LetGo(const std::shared_ptr<Entry>& entry) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (entry->is_published) entry->kept_until = clock_.Now() + limits_.kept_for;
  if (--entry->holders > 0 || entry->is_published) return;
  Erase(entries_.find(entry->key));
}

void MediaBytes::Erase(std::map<Key, std::shared_ptr<Entry>>::iterator place) {
  CHECK(place != entries_.end());
  Entry& entry = *place->second;
  entry.is_erased = true;
  (entry.in_files ? files_ : memory_) -= static_cast<int64_t>(entry.size);
  arriving_ -= entry.arriving;
  entries_.erase(place);
}

void MediaBytes::DropWhatIsOver() {
  const absl::Time now = clock_.Now();
  if (now < next_drop_) return;
  next_drop_ = now + kBetweenDrops;
  for (auto place = entries_.begin(); place != entries_.end();) {
    const auto next = std::next(place);
    if (place->second->holders == 0 && place->second->kept_until <= now) Erase(place);
    place = next;
  }
}

absl::StatusOr<MediaBytes::Held> MediaBytes::Keep(absl::string_view scope, absl::string_view digest,
                                                  std::string bytes, std::unique_ptr<Room> room) {
  CHECK(room != nullptr && bytes.size() <= static_cast<uint64_t>(room->bytes_));
  const auto size = static_cast<int64_t>(bytes.size());
  std::shared_ptr<Entry> entry;
  Held held;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    DropWhatIsOver();
    std::shared_ptr<Entry>& place = entries_[Key(scope, digest)];
    if (place != nullptr) return Hold(place);
    const bool has_memory = size <= limits_.memory - memory_;
    if (!has_memory && size > limits_.files - files_) {
      entries_.erase(Key(scope, digest));
      return NoRoom("others are kept");
    }
    entry = place = std::make_shared<Entry>();
    entry->key = Key(scope, digest);
    entry->size = bytes.size();
    entry->bytes = std::make_shared<const std::string>(std::move(bytes));
    entry->in_files = !has_memory;
    (has_memory ? memory_ : files_) += size;
    held = Hold(entry);
    if (has_memory) entry = nullptr;
  }
  if (entry != nullptr) Write(entry, std::move(room));
  return held;
}

void MediaBytes::Write(const std::shared_ptr<Entry>& entry, std::unique_ptr<Room> room) {
  // They count as arriving until they are in the file. Where they cannot be written they stay so.
  thread_.Post([this, entry, bytes = entry->bytes, room = std::move(room)] {
    absl::StatusOr<HiddenFile> file = WriteHidden(limits_.folder, *bytes);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (entry->is_erased) return;
    if (file.ok()) {
      entry->file = std::make_shared<const HiddenFile>(*std::move(file));
      entry->bytes = nullptr;
    } else {
      LogWarning(absl::StrCat("a medium stays in memory, as its file in ", limits_.folder,
                              " cannot be written: ", file.status().message()));
      entry->arriving = std::exchange(room->bytes_, 0);
    }
  });
}

MediaBytes::Held MediaBytes::Find(absl::string_view scope, absl::string_view digest) {
  const std::lock_guard<std::mutex> lock(mutex_);
  DropWhatIsOver();
  const auto place = entries_.find(Key(scope, digest));
  return place == entries_.end() ? nullptr : Hold(place->second);
}

absl::StatusOr<MediaBytes::Held> MediaBytes::FindHandle(absl::string_view scope,
                                                        absl::string_view handle) {
  absl::string_view hex = handle;
  if (absl::ConsumePrefix(&hex, kHandlePrefix) && hex.size() == 2 * SHA256_DIGEST_LENGTH &&
      std::all_of(hex.begin(), hex.end(), absl::ascii_isxdigit)) {
    const std::lock_guard<std::mutex> lock(mutex_);
    DropWhatIsOver();
    const auto place = entries_.find(Key(scope, absl::HexStringToBytes(hex)));
    if (place != entries_.end() && place->second->is_published) return Hold(place->second);
  }
  return absl::NotFoundError("no medium of this handle is kept here");
}

std::string MediaBytes::Publish(const Held& medium) {
  const std::lock_guard<std::mutex> lock(mutex_);
  medium->entry_->is_published = true;
  return absl::StrCat(kHandlePrefix, absl::BytesToHexString(medium->digest()));
}

std::pair<int64_t, int64_t> MediaBytes::used() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return {memory_, files_};
}

}  // namespace minicpmv::router
