// An EncodeMediaRequest from the wire, at a home that holds one picture: what is taken names slices
// that there are, or pixels for which there is room.
#include <openssl/sha.h>

#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>

#include "runtime/base/check.h"
#include "services/vision/encode_request.h"
#include "services/vision/pixel_arrivals.h"
#include "tests/fuzz/nano_worker.h"

namespace minicpmv::vision {
namespace {

constexpr char kScope[] = "";
constexpr int64_t kFewBytes = 1 << 20;

struct Home {
  MediaStore store{MediaStoreOptions()};
  MediaStore::Pin picture;
  std::string digest;
};

Home& TheHome() {
  static Home* const home = [] {
    auto* const made = new Home;
    std::ifstream file(absl::StrCat(MINICPMV_SOURCE_DIR, "/tools/nano/pictures/008-0.png"),
                       std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)),
                            std::istreambuf_iterator<char>());
    made->digest.resize(SHA256_DIGEST_LENGTH);
    SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
           reinterpret_cast<unsigned char*>(made->digest.data()));
    MediaUpload upload = *made->store.Begin(kScope, made->digest, bytes.size());
    CHECK(upload.Add(0, bytes).ok());
    made->picture = *std::move(upload).Finish();
    return made;
  }();
  return *home;
}

void Run(const uint8_t* data, size_t size) {
  const NanoWorker& worker = NanoWorker::Get();
  v1::EncodeMediaRequest request;
  if (!request.ParseFromArray(data, static_cast<int>(size))) return;
  worker.SetFingerprints(request);
  // Nor does a fuzzer find a digest.
  if (request.media_digest() == "held") request.set_media_digest(TheHome().digest);
  const auto name_medium = [&](auto& spans) {
    for (v1::IndexedSpan& span : spans) {
      if (span.span().media_digest() == "held") {
        span.mutable_span()->set_media_digest(request.media_digest());
      }
    }
  };
  name_medium(*request.mutable_spans());
  if (request.has_held()) {
    for (v1::PixelHelper& helper : *request.mutable_held()->mutable_helpers()) {
      name_medium(*helper.mutable_spans());
    }
  }
  const absl::StatusOr<EncodePlan> plan =
      ReadEncodeRequest(request, worker.identity, worker.model->spec(), TheHome().store);
  if (!plan.ok()) {
    CHECK(!absl::IsInternal(plan.status()) && !absl::IsUnknown(plan.status())) << plan.status();
    return;
  }
  if (!plan->medium.has_value()) {
    const int patch = static_cast<int>(worker.model->spec().vision.patch_size);
    const int64_t bytes = PixelArrivals::BytesOf(plan->spans, patch);
    CHECK(bytes >= 0 && bytes <= int64_t{kMaxSlicePatches + kMaxPatches} * patch * patch * 3)
        << bytes;
    if (bytes <= kFewBytes) CHECK(PixelArrivals::Create(plan->spans, patch).ok());
    return;
  }
  for (const SpanOfSlice& span : plan->spans) {
    CHECK(span.slice.sub_image >= 0 && span.slice.sub_image < plan->medium->plan.sub_images());
  }
}

}  // namespace
}  // namespace minicpmv::vision

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  minicpmv::vision::Run(data, size);
  return 0;
}
