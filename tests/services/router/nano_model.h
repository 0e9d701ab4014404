#pragma once

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "services/router/router_model.h"

namespace minicpmv::router {

// The nano model's words and numbers, read once.
inline const RouterModel& NanoModel() {
  static const RouterModel* const model = [] {
    auto loaded = RouterModel::Load(absl::StrCat(MINICPMV_SOURCE_DIR, "/tools/nano/model"), "nano");
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return loaded->release();
  }();
  return *model;
}

}  // namespace minicpmv::router
