#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "runtime/base/clock.h"
#include "services/gateway/body.h"

namespace minicpmv::gateway {

// A picture that a client has uploaded, for use in several requests. Immutable.
struct StoredFile {
  std::string id;        // "file-" and the SHA-256 of its bytes
  std::string filename;  // as the client calls it
  std::string purpose;
  int64_t created = 0;               // Unix seconds
  std::shared_ptr<const Body> body;  // the request that brought it
  int64_t offset = 0, size = 0;      // of its bytes there
};

// What the ids of files begin with.
inline constexpr absl::string_view kFilePrefix = "file-";
std::string FileIdOf(absl::string_view digest);

// Files by tenant: nobody sees, or learns of, those of others. Each is kept until it is deleted, or
// has not been used for a while. Thread-safe.
class FileStore {
 public:
  using File = std::shared_ptr<const StoredFile>;

  struct Limits {
    size_t files = 4096;
    int64_t tenant_bytes = int64_t{2} << 30;   // of one tenant's files
    absl::Duration kept_for = absl::Hours(1);  // after their last use
  };

  explicit FileStore(const Limits& limits, const Clock& clock = Clock::Monotonic())
      : limits_(limits), clock_(clock) {}

  // The same bytes are one file: the one that is there already is returned. RESOURCE_EXHAUSTED:
  // there is no room for more of all, or of this tenant.
  absl::StatusOr<File> Keep(const std::string& tenant, StoredFile file);
  // Each null where there is none. To find one is to use it.
  File Find(const std::string& tenant, const std::string& id);
  File Delete(const std::string& tenant, const std::string& id);
  // The oldest first.
  std::vector<File> List(const std::string& tenant);

  // Lets go of what has not been used for so long.
  void DropWhatIsOver();

 private:
  struct Entry {
    File file;
    absl::Time kept_until;
  };
  void DropWhatIsOverLocked();

  const Limits limits_;
  const Clock& clock_;
  std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, Entry> files_;  // by tenant and id
};

}  // namespace minicpmv::gateway
