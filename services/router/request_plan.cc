#include "services/router/request_plan.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/blame.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/media/slicing.h"
#include "runtime/model/slice_rule.h"
#include "services/common/status_proto.h"
#include "services/router/reply_settings.h"
#include "services/router/stable_hash.h"

namespace minicpmv::router {
namespace {

// Beyond what any medium can be; keeps sizes within int.
constexpr uint32_t kMaxSide = 1 << 26;

absl::string_view NameOf(chat::v1::Role role) {
  switch (role) {
    case chat::v1::ROLE_SYSTEM:
      return "system";
    case chat::v1::ROLE_ASSISTANT:
      return "assistant";
    default:
      return "user";
  }
}

std::vector<Message> MessagesOf(const chat::v1::Conversation& conversation) {
  std::vector<Message> messages;
  messages.reserve(static_cast<size_t>(conversation.messages_size()));
  for (const chat::v1::Message& message : conversation.messages()) {
    Message& made = messages.emplace_back();
    made.role = std::string(NameOf(message.role()));
    for (const chat::v1::Part& part : message.parts()) {
      made.parts.push_back({part.text(), part.has_media()});
    }
  }
  return messages;
}

// The system message, if there is one, and what the user said first.
uint64_t HashBeginning(const ChatRequest& request) {
  StableHash hash;
  hash.Add(request.cache_scope);
  size_t medium = 0;
  for (const chat::v1::Message& message : request.request.conversation().messages()) {
    hash.Add(static_cast<uint64_t>(message.role()));
    for (const chat::v1::Part& part : message.parts()) {
      hash.Add(part.has_media() ? request.media[medium++].digest : part.text());
    }
    if (message.role() == chat::v1::ROLE_USER) break;
  }
  return hash.value();
}

std::vector<const chat::v1::Media*> MediaOf(const chat::v1::Conversation& conversation) {
  std::vector<const chat::v1::Media*> media;
  for (const chat::v1::Message& message : conversation.messages()) {
    for (const chat::v1::Part& part : message.parts()) {
      if (part.has_media()) media.push_back(&part.media());
    }
  }
  return media;
}

absl::StatusOr<SlicePlan> PlanMedium(const common::v1::MediaInfo& info,
                                     const common::v1::MediaOptions& options,
                                     const RouterModel& model) {
  if (info.kind() == common::v1::MEDIA_KIND_VIDEO) {
    return absl::UnimplementedError("videos are not answered by this version");
  }
  const bool is_stored = options.exif_orientation() == common::v1::EXIF_ORIENTATION_IGNORE;
  const uint32_t width = is_stored ? info.stored_width() : info.width();
  const uint32_t height = is_stored ? info.stored_height() : info.height();
  if (info.kind() != common::v1::MEDIA_KIND_IMAGE || width > kMaxSide || height > kMaxSide) {
    return absl::InternalError("a vision worker described a medium that cannot be");
  }
  SliceRule rule = SliceRuleOf(model.spec());
  if (options.has_max_slices()) rule.max_slices = static_cast<int>(options.max_slices());
  return PlanSlices({static_cast<int>(width), static_cast<int>(height)}, rule);
}

common::v1::Slice SliceOf(const SlicePlan& plan, int sub_image) {
  const PatchGrid patches = plan.patches(sub_image);
  common::v1::Slice slice;
  slice.set_grid_columns(static_cast<uint32_t>(plan.grid_columns));
  slice.set_grid_rows(static_cast<uint32_t>(plan.grid_rows));
  slice.set_index(static_cast<uint32_t>(sub_image));
  slice.set_patch_columns(static_cast<uint32_t>(patches.columns));
  slice.set_patch_rows(static_cast<uint32_t>(patches.rows));
  return slice;
}

}  // namespace

absl::StatusOr<RequestPlan> PlanRequest(const ChatRequest& request,
                                        absl::Span<const common::v1::MediaInfo> infos,
                                        const RouterModel& model) {
  const chat::v1::Conversation& conversation = request.request.conversation();
  const chat::v1::ReplyOptions& asked = request.request.options();
  const std::vector<const chat::v1::Media*> media = MediaOf(conversation);
  CHECK_EQ(media.size(), infos.size());

  std::vector<SlicePlan> plans;
  std::vector<common::v1::MediaOptions> options;
  for (size_t i = 0; i < media.size(); ++i) {
    options.push_back(MediaOptionsOf(asked, *media[i]));
    absl::StatusOr<SlicePlan> plan = PlanMedium(infos[i], options.back(), model);
    if (!plan.ok()) {
      const std::string path = MediumPath(request, i);
      return WithField(Blame(path, plan.status()), path);
    }
    plans.push_back(*std::move(plan));
  }
  const absl::StatusOr<Prompt> built =
      model.prompts().Build(MessagesOf(conversation), plans, LayoutOf(asked, model));
  if (!built.ok()) return WithField(built.status(), "conversation.messages");

  const size_t tokens = built->tokens.size();
  if (static_cast<int64_t>(tokens) >= model.spec().language.max_positions) {
    return absl::OutOfRangeError(absl::StrCat("the prompt has ", tokens, " tokens: a context of ",
                                              model.spec().language.max_positions,
                                              " leaves no room for an answer"));
  }
  RequestPlan plan;
  plan.beginning = HashBeginning(request);
  plan.prompt.mutable_tokens()->Add(built->tokens.begin(), built->tokens.end());
  plan.prompt.set_prompt_tokens(static_cast<uint32_t>(tokens));
  for (const Prompt::Span& span : built->spans) {
    const auto medium = static_cast<size_t>(span.image);
    common::v1::Span& made = *plan.prompt.add_spans();
    made.set_first_token(static_cast<uint32_t>(span.first));
    made.set_rows(static_cast<uint32_t>(model.spec().resampler.queries));
    made.set_media_digest(request.media[medium].digest);
    *made.mutable_slice() = SliceOf(plans[medium], span.sub_image);
    *made.mutable_options() = options[medium];
    plan.medium_of_span.push_back(medium);
  }
  return plan;
}

std::string MediumPath(const ChatRequest& request, size_t index) {
  const chat::v1::Conversation& conversation = request.request.conversation();
  for (int i = 0; i < conversation.messages_size(); ++i) {
    for (int j = 0; j < conversation.messages(i).parts_size(); ++j) {
      if (!conversation.messages(i).parts(j).has_media() || index-- > 0) continue;
      return absl::StrCat("conversation.messages[", i, "].parts[", j, "].media");
    }
  }
  return "conversation";
}

}  // namespace minicpmv::router
