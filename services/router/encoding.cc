#include "services/router/encoding.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"

namespace minicpmv::router {

Encoding::Encoding(EncodingGround ground, std::vector<MediumToEncode> media,
                   const std::set<std::string>& failed, RequestBill& bill)
    : ground_(std::move(ground)), bill_(bill) {
  std::vector<MediumSlices> slices;
  for (const MediumToEncode& medium : media) slices.push_back(medium.slices);
  std::vector<std::vector<SliceShare>> shares =
      ShareSlices(slices, failed, ground_.calls.fleet.Snapshot());
  for (size_t i = 0; i < media.size(); ++i) {
    Medium& medium = media_.emplace_back();
    medium.digest = std::move(media[i].digest);
    for (size_t j = 0; j < shares[i].size(); ++j) {
      Part& part = j == 0 ? medium.home : medium.helpers.emplace_back();
      part.share = std::move(shares[i][j]);
      if (j == 0) continue;
      vision::v1::EncodeMediaRequest request = RequestFor(medium, part.share);
      request.mutable_arriving();
      Begin(part, std::move(request));
    }
    BeginHomeIfReady(medium);
  }
}

bool Encoding::HasNews() const {
  return std::any_of(media_.begin(), media_.end(), [](const Medium& medium) {
    return HasNews(medium.home) || std::any_of(medium.helpers.begin(), medium.helpers.end(),
                                               [](const Part& part) { return HasNews(part); });
  });
}

std::optional<CallFailure> Encoding::TakeNews() {
  for (Medium& medium : media_) {
    for (size_t i = 0; i < medium.helpers.size();) {
      Part& helper = medium.helpers[i];
      std::optional<CallFailure> failure = Take(helper);
      if (failure && medium.has_begun) return failure;
      if (failure) {
        // Nothing has been promised to it yet.
        if (absl::IsResourceExhausted(failure->status)) {
          ground_.calls.fleet.NoteRefusal(failure->worker, failure->role);
        }
        std::vector<uint32_t>& spans = medium.home.share.spans;
        spans.insert(spans.end(), helper.share.spans.begin(), helper.share.spans.end());
        std::sort(spans.begin(), spans.end());
        medium.helpers.erase(medium.helpers.begin() + static_cast<ptrdiff_t>(i));
        continue;
      }
      ++i;
    }
    if (std::optional<CallFailure> failure = Take(medium.home)) return failure;
    BeginHomeIfReady(medium);
  }
  return std::nullopt;
}

bool Encoding::is_done() const {
  return std::all_of(media_.begin(), media_.end(), [](const Medium& medium) {
    return medium.home.is_done && std::all_of(medium.helpers.begin(), medium.helpers.end(),
                                              [](const Part& part) { return part.is_done; });
  });
}

vision::v1::EncodeMediaRequest Encoding::RequestFor(const Medium& medium,
                                                    const SliceShare& share) const {
  vision::v1::EncodeMediaRequest request;
  *request.mutable_scope() = ground_.scope;
  request.set_media_digest(medium.digest);
  AddSpans(share.spans, *request.mutable_spans());
  *request.mutable_destination() = ground_.destination;
  request.set_model_fingerprint(ground_.calls.fleet.model_fingerprint());
  return request;
}

void Encoding::AddSpans(const std::vector<uint32_t>& spans,
                        google::protobuf::RepeatedPtrField<vision::v1::IndexedSpan>& out) const {
  for (const uint32_t index : spans) {
    vision::v1::IndexedSpan& span = *out.Add();
    span.set_index(index);
    *span.mutable_span() = ground_.prompt.spans(static_cast<int>(index));
  }
}

void Encoding::Begin(Part& part, vision::v1::EncodeMediaRequest request) {
  const Work work = {static_cast<int64_t>(part.share.spans.size()), 0};
  part.call =
      std::make_unique<Call>(ground_.calls, part.share.worker, common::v1::ROLE_VISION, work);
  part.call->Begin("EncodeMedia",
                   [&](const TraceContext& work, Told<vision::v1::EncodeMediaResponse> told) {
                     return ground_.workers.EncodeMedia(part.share.worker, work, std::move(request),
                                                        std::move(told));
                   });
}

void Encoding::BeginHomeIfReady(Medium& medium) {
  if (medium.has_begun) return;
  vision::v1::EncodeMediaRequest request = RequestFor(medium, medium.home.share);
  vision::v1::HeldMedia& held = *request.mutable_held();
  for (const Part& helper : medium.helpers) {
    if (!helper.landing) return;
    vision::v1::PixelHelper& named = *held.add_helpers();
    named.mutable_destination()->set_worker_id(helper.share.worker.id);
    named.mutable_destination()->set_address(helper.share.worker.address);
    *named.mutable_destination()->mutable_landing() = *helper.landing;
    AddSpans(helper.share.spans, *named.mutable_spans());
  }
  medium.has_begun = true;
  Begin(medium.home, std::move(request));
}

std::optional<CallFailure> Encoding::Take(Part& part) {
  while (part.call != nullptr && part.call->has_message()) {
    const vision::v1::EncodeMediaResponse message = part.call->Take();
    switch (message.event_case()) {
      case vision::v1::EncodeMediaResponse::kLanding:
        part.landing = message.landing();
        break;
      case vision::v1::EncodeMediaResponse::kSlice:
        if (message.slice().step() == vision::v1::SliceProgress::STEP_MADE_ROWS) bill_.AddSlice();
        break;
      case vision::v1::EncodeMediaResponse::kDone:
        bill_.Add(part.call->began(), message.done().bill());
        part.is_done = true;
        part.call = nullptr;
        break;
      case vision::v1::EncodeMediaResponse::EVENT_NOT_SET:
        break;
    }
  }
  if (part.call != nullptr && part.call->has_ended()) return part.call->Failure();
  return std::nullopt;
}

bool Encoding::HasNews(const Part& part) { return part.call != nullptr && part.call->has_news(); }

}  // namespace minicpmv::router
