#include "tools/minicpmv/model_folder.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "runtime/base/quoted.h"

namespace minicpmv {
namespace fs = std::filesystem;

absl::StatusOr<std::string> ResolveModelFolder(const std::string& named) {
  std::error_code error;
  if (!named.empty()) {
    if (fs::is_directory(named, error)) return named;
    return absl::NotFoundError(absl::StrCat("--model: ", Quoted(named), " is no folder"));
  }
  const fs::path beside = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const fs::path& folder :
       {beside / "nano", beside.parent_path() / "share" / "minicpmv" / "nano"}) {
    if (fs::is_directory(folder, error)) return folder.string();
  }
  return absl::NotFoundError(
      absl::StrCat("--model: not given, and no nano model lies in ", (beside / "nano").string()));
}

}  // namespace minicpmv
