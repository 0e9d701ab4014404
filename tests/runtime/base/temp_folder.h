#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "runtime/base/check.h"

namespace minicpmv {

// An empty folder of its own, removed with all that is in it at the end.
class TempFolder {
 public:
  TempFolder() : path_(::testing::TempDir() + "minicpmv_XXXXXX") {
    CHECK(mkdtemp(path_.data()) != nullptr) << path_;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& file) const { return path_ + "/" + file; }

 private:
  std::string path_;
};

}  // namespace minicpmv
