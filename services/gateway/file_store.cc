#include "services/gateway/file_store.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace minicpmv::gateway {

std::string FileIdOf(absl::string_view digest) {
  return absl::StrCat(kFilePrefix, absl::BytesToHexString(digest));
}

void FileStore::DropWhatIsOver() {
  const std::lock_guard<std::mutex> lock(mutex_);
  DropWhatIsOverLocked();
}

void FileStore::DropWhatIsOverLocked() {
  const absl::Time now = clock_.Now();
  for (auto place = files_.begin(); place != files_.end();) {
    place = place->second.kept_until <= now ? files_.erase(place) : std::next(place);
  }
}

absl::StatusOr<FileStore::File> FileStore::Keep(const std::string& tenant, StoredFile file) {
  const std::lock_guard<std::mutex> lock(mutex_);
  DropWhatIsOverLocked();
  const absl::Time kept_until = clock_.Now() + limits_.kept_for;
  if (const auto held = files_.find({tenant, file.id}); held != files_.end()) {
    held->second.kept_until = kept_until;
    return held->second.file;
  }
  if (files_.size() >= limits_.files) {
    return absl::ResourceExhaustedError("there is no room for more files");
  }
  int64_t bytes = file.size;
  for (auto place = files_.lower_bound({tenant, ""});
       place != files_.end() && place->first.first == tenant; ++place) {
    bytes += place->second.file->size;
  }
  if (bytes > limits_.tenant_bytes) {
    return absl::ResourceExhaustedError("there is no room for more files of yours: delete some");
  }
  auto kept = std::make_shared<const StoredFile>(std::move(file));
  files_[{tenant, kept->id}] = {kept, kept_until};
  return kept;
}

FileStore::File FileStore::Find(const std::string& tenant, const std::string& id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  DropWhatIsOverLocked();
  const auto found = files_.find({tenant, id});
  if (found == files_.end()) return nullptr;
  found->second.kept_until = clock_.Now() + limits_.kept_for;
  return found->second.file;
}

FileStore::File FileStore::Delete(const std::string& tenant, const std::string& id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  DropWhatIsOverLocked();
  const auto found = files_.find({tenant, id});
  if (found == files_.end()) return nullptr;
  File file = std::move(found->second.file);
  files_.erase(found);
  return file;
}

std::vector<FileStore::File> FileStore::List(const std::string& tenant) {
  const std::lock_guard<std::mutex> lock(mutex_);
  DropWhatIsOverLocked();
  std::vector<File> list;
  for (auto place = files_.lower_bound({tenant, ""});
       place != files_.end() && place->first.first == tenant; ++place) {
    list.push_back(place->second.file);
  }
  std::sort(list.begin(), list.end(), [](const File& a, const File& b) {
    return std::tie(a->created, a->id) < std::tie(b->created, b->id);
  });
  return list;
}

}  // namespace minicpmv::gateway
