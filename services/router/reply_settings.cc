#include "services/router/reply_settings.h"

#include <algorithm>

namespace minicpmv::router {

decode::v1::Sampling SamplingOf(const chat::v1::ReplyOptions& options, uint64_t seed) {
  const chat::v1::Sampling& asked = options.sampling();
  decode::v1::Sampling sampling;
  if (asked.has_greedy()) sampling.set_greedy(asked.greedy());
  if (asked.has_temperature()) sampling.set_temperature(asked.temperature());
  if (asked.has_top_p()) sampling.set_top_p(asked.top_p());
  if (asked.has_top_k()) sampling.set_top_k(asked.top_k());
  if (asked.has_repetition_penalty()) {
    sampling.set_repetition_penalty(asked.repetition_penalty());
  }
  sampling.set_seed(seed);
  return sampling;
}

decode::v1::Limits LimitsOf(const chat::v1::ReplyOptions& options, const RouterModel& model,
                            int64_t prompt_tokens) {
  const int64_t room = model.spec().language.max_positions - prompt_tokens;
  const int64_t wanted = options.has_max_new_tokens() ? int64_t{options.max_new_tokens()}
                                                      : model.spec().generation.max_new_tokens;
  const int64_t most = std::max<int64_t>(std::min(wanted, room), 1);
  decode::v1::Limits limits;
  limits.set_max_new_tokens(static_cast<uint32_t>(most));
  limits.set_min_new_tokens(
      static_cast<uint32_t>(std::min<int64_t>(options.min_new_tokens(), most)));
  for (const int32_t id : model.prompts().stop_ids()) {
    limits.add_stop_tokens(static_cast<uint32_t>(id));
  }
  return limits;
}

ReplyText::Options TextOf(const chat::v1::ReplyOptions& options, const RouterModel& model) {
  ReplyText::Options text;
  text.stop.assign(options.stop().begin(), options.stop().end());
  text.reference_quirks = options.reference_quirks();
  const absl::string_view message_start = model.spec().family->marks.message_start;
  text.message_start = model.tokenizer().SpecialId(message_start).value_or(text.message_start);
  return text;
}

PromptOptions LayoutOf(const chat::v1::ReplyOptions& options, const RouterModel& model) {
  const chat::v1::MediaOptions& media = options.media();
  PromptOptions layout;
  layout.image_ids =
      model.spec().preprocess.image_ids && (!media.has_use_image_id() || media.use_image_id());
  layout.tags = options.reference_quirks() ? Tags::kTokens : Tags::kText;
  layout.drop_token_zero = options.reference_quirks();
  return layout;
}

common::v1::MediaOptions MediaOptionsOf(const chat::v1::ReplyOptions& options,
                                        const chat::v1::Media& medium) {
  common::v1::MediaOptions media;
  if (medium.has_max_slices()) {
    media.set_max_slices(medium.max_slices());
  } else if (options.media().has_max_slices()) {
    media.set_max_slices(options.media().max_slices());
  }
  media.set_exif_orientation(options.media().ignore_exif_orientation()
                                 ? common::v1::EXIF_ORIENTATION_IGNORE
                                 : common::v1::EXIF_ORIENTATION_APPLY);
  return media;
}

}  // namespace minicpmv::router
