#pragma once

#include <memory>

#include "absl/strings/str_cat.h"
#include "runtime/engine/local_model.h"
#include "services/common/model_identity.h"

namespace minicpmv {

// What a worker knows of itself when a request comes, read once.
struct NanoWorker {
  std::unique_ptr<LocalModel> model;
  common::v1::ModelIdentity identity;

  static const NanoWorker& Get() {
    static const NanoWorker* const worker = [] {
      LocalModelOptions options;
      options.folder = absl::StrCat(MINICPMV_SOURCE_DIR, "/tools/nano/model");
      options.devices = {DeviceSpec{1}};
      options.pages = 16;
      auto* const made = new NanoWorker;
      made->model = *LocalModel::Load(options);
      made->identity = IdentityOf(*made->model, "nano");
      return made;
    }();
    return *worker;
  }

  // A fuzzer never finds 32 bytes that are right: who names any fingerprint at all names this.
  template <typename Request>
  void SetFingerprints(Request& request) const {
    if (!request.model_fingerprint().empty()) {
      request.set_model_fingerprint(identity.model_fingerprint());
    }
    if constexpr (requires { request.layout_fingerprint(); }) {
      if (!request.layout_fingerprint().empty()) {
        request.set_layout_fingerprint(identity.layout_fingerprint());
      }
    }
  }
};

}  // namespace minicpmv
