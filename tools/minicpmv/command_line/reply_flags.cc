#include "tools/minicpmv/command_line/reply_flags.h"

#include "tools/minicpmv/command_line/values.h"

namespace minicpmv {

ReplyOptions ReplyFlags::ToReply() const {
  ReplyOptions options = reply;
  options.image_ids = !no_image_ids;
  options.exif = exif == "ignore" ? Exif::kIgnore : Exif::kApply;
  if (options.reference_quirks) options.tags = Tags::kTokens;
  return options;
}

void AddReplyFlags(CLI::App& app, ReplyFlags& flags) {
  AddModelFlags(app, flags.model);
  const std::string asking = "Question";
  CLI::Option* const text =
      app.add_option("question", flags.question.text, "The question (else standard input)");
  AddRepeated(app, "--image", flags.question.images,
              "A picture before the question; as often as need be", "FILE", asking);
  app.add_option("--messages", flags.question.messages,
                 "A conversation in the OpenAI chat form instead")
      ->type_name("FILE")
      ->group(asking)
      ->excludes(text)
      ->excludes(app.get_option("--image"));
  app.add_option("--system", flags.question.system, "The system message (the model's own)")
      ->group(asking);
  app.add_option("--max-slices", flags.reply.max_slices,
                 "Most slices of a picture; 1: overview only (the model's)")
      ->check(Whole(1, kMaxSliceFlag))
      ->type_name("N")
      ->group(asking);
  app.add_flag("--no-image-id", flags.no_image_ids,
               "Pictures are not numbered, as for frames of a video")
      ->group(asking);
  app.add_option("--exif", flags.exif,
                 "apply: turn pictures upright; ignore: as the original does (apply)")
      ->check(OneOf({"apply", "ignore"}))
      ->type_name("HOW")
      ->group(asking);
  app.add_option("--max-prompt-tokens", flags.reply.max_prompt_tokens,
                 "A longer prompt is refused (the model's)")
      ->check(Whole(1, kMaxCount))
      ->type_name("N")
      ->group(asking);
  app.add_flag("--reference-quirks", flags.reply.reference_quirks,
               "What the original does by accident, too: \"!\" is not seen, tags in a text are "
               "tokens, answers are stripped")
      ->group(asking);

  const std::string answering = "Answer";
  app.add_option("--temperature", flags.reply.temperature, "(the model's)")
      ->check(Number(0, kMaxTemperature, false))
      ->type_name("T")
      ->group(answering);
  app.add_option("--top-p", flags.reply.top_p, "(the model's)")
      ->check(Number(0, 1, false))
      ->type_name("P")
      ->group(answering);
  app.add_option("--top-k", flags.reply.top_k, "0: off (the model's)")
      ->check(Whole(0, kMaxTopK))
      ->type_name("K")
      ->group(answering);
  app.add_option("--repetition-penalty", flags.reply.repetition_penalty, "1: off (the model's)")
      ->check(Number(1 / kMaxPenalty, kMaxPenalty, true))
      ->type_name("P")
      ->group(answering);
  app.add_option("--min-new-tokens", flags.reply.min_new_tokens,
                 "The answer does not end before (0)")
      ->check(Whole(0, kMaxCount))
      ->type_name("N")
      ->group(answering);
  app.add_option("--max-new-tokens", flags.reply.max_new_tokens,
                 "The answer is cut after (the model's)")
      ->check(Whole(1, kMaxCount))
      ->type_name("N")
      ->group(answering);
  AddRepeated(app, "--stop", flags.reply.stop,
              "The answer ends before this text; as often as need be", "TEXT", answering);
  app.add_option("--seed", flags.reply.seed, "Of the draws (drawn, and told by --json and --bill)")
      ->check(Seed())
      ->type_name("N")
      ->group(answering);
  app.add_flag("--greedy", flags.reply.greedy, "Nothing is drawn; the penalty stays as it is")
      ->group(answering);
}

}  // namespace minicpmv
