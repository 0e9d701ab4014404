// A request as it comes from the wire: what the router takes can be laid out, counted and written
// back, and what it refuses it refuses by name.
#include <cmath>
#include <cstdint>
#include <memory>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/engine/sampling.h"
#include "services/router/reply_settings.h"
#include "services/router/request_check.h"
#include "services/router/request_plan.h"

namespace minicpmv::router {
namespace {

constexpr char kScope[] = "tenant";

const RouterModel& Nano() {
  static const RouterModel* const model =
      RouterModel::Load(absl::StrCat(MINICPMV_SOURCE_DIR, "/tools/nano/model"), "nano")->release();
  return *model;
}

common::v1::MediaInfo InfoOf(const RequestMedium& medium) {
  common::v1::MediaInfo info;
  info.set_kind(common::v1::MEDIA_KIND_IMAGE);
  const size_t bytes = medium.bytes == nullptr ? 7 : medium.bytes->size();
  info.set_width(static_cast<uint32_t>(1 + 37 * bytes % 2000));
  info.set_height(static_cast<uint32_t>(1 + 101 * bytes % 2000));
  info.set_stored_width(info.height());
  info.set_stored_height(info.width());
  return info;
}

void CheckPlan(const ChatRequest& chat) {
  std::vector<common::v1::MediaInfo> infos;
  for (const RequestMedium& medium : chat.media) infos.push_back(InfoOf(medium));
  const absl::StatusOr<RequestPlan> plan = PlanRequest(chat, infos, Nano());
  if (!plan.ok()) {
    CHECK(!absl::IsInternal(plan.status())) << plan.status();
    return;
  }
  const auto vocabulary = static_cast<uint32_t>(Nano().spec().language.vocabulary);
  for (const uint32_t token : plan->prompt.tokens()) CHECK(token < vocabulary) << token;
  const chat::v1::ReplyOptions& options = chat.request.options();
  const decode::v1::Limits limits = LimitsOf(options, Nano(), plan->prompt.tokens_size());
  CHECK(limits.max_new_tokens() >= 1 && limits.min_new_tokens() <= limits.max_new_tokens());
  CHECK_LE(plan->prompt.tokens_size() + int64_t{limits.max_new_tokens()},
           Nano().spec().language.max_positions);
  ReplyText::Create(Nano().tokenizer(), TextOf(options, Nano())).status().IgnoreError();
}

void Run(const uint8_t* data, size_t size) {
  static MediaBytes& media =
      *new MediaBytes({.one_medium = 1 << 16, .memory = 1 << 20, .files = 0});
  chat::v1::StreamReplyRequest request;
  if (!request.ParseFromArray(data, static_cast<int>(size))) return;
  const absl::StatusOr<ReceivedRequest> received =
      ReceiveRequest(std::move(request), kScope, media);
  if (!received.ok()) {
    CHECK(absl::IsInvalidArgument(received.status()) || absl::IsNotFound(received.status()) ||
          absl::IsResourceExhausted(received.status()))
        << received.status();
    return;
  }
  const chat::v1::Sampling& sampling = received->chat.request.options().sampling();
  CHECK(std::isfinite(sampling.temperature()) && std::isfinite(sampling.top_p()) &&
        std::isfinite(sampling.repetition_penalty()));
  CheckPlan(received->chat);
}

}  // namespace
}  // namespace minicpmv::router

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  minicpmv::router::Run(data, size);
  return 0;
}
