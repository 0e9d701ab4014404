#include "services/common/engine_room.h"

#include <algorithm>

#include "runtime/base/check.h"
#include "runtime/base/tracing.h"
#include "services/common/durations.h"

namespace minicpmv {
namespace {

// What each later step leaves of the weight of one before.
constexpr double kKept = 0.95;

prometheus::Counter& PromptTokens(Metrics& metrics, const char* kind) {
  return metrics.Counter("minicpmv_prompt_tokens_total",
                         "Prompt positions computed (text, media) or found (cached).",
                         {{"kind", kind}});
}

prometheus::Gauge& Pages(Metrics& metrics, const char* state) {
  return metrics.Gauge("minicpmv_pages", "Pages of the cache by what holds them.",
                       {{"state", state}});
}

prometheus::Histogram& StepSeconds(Metrics& metrics, const char* phase) {
  return metrics.Histogram("minicpmv_step_seconds",
                           "Work of one step: prompts only, tokens only, or both.", kStageBuckets,
                           {{"phase", phase}});
}

// A counter that shows a total which somebody else keeps.
void RaiseTo(prometheus::Counter& counter, int64_t total) {
  counter.Increment(std::max(0.0, static_cast<double>(total) - counter.Value()));
}

}  // namespace

EngineRoom::EngineRoom(Worker& worker, LocalModel& model)
    : worker_(worker),
      model_(model),
      text_tokens_(PromptTokens(worker.metrics(), "text")),
      media_tokens_(PromptTokens(worker.metrics(), "media")),
      cached_tokens_(PromptTokens(worker.metrics(), "cached")),
      generated_tokens_(
          worker.metrics().Counter("minicpmv_generated_tokens_total", "Tokens chosen.")),
      preemptions_(worker.metrics().Counter("minicpmv_preemptions_total",
                                            "Sequences that gave their pages to older ones.")),
      nan_logits_(worker.metrics().Counter("minicpmv_nan_logits_total",
                                           "Replies that ended because logits were no numbers.")),
      prefix_query_tokens_(worker.metrics().Counter(
          "minicpmv_prefix_query_tokens_total", "Positions that the prefix index was asked for.")),
      prefix_hit_tokens_(worker.metrics().Counter("minicpmv_prefix_hit_tokens_total",
                                                  "Positions that the prefix index held.")),
      free_pages_(Pages(worker.metrics(), "free")),
      held_pages_(Pages(worker.metrics(), "held")),
      cached_pages_(Pages(worker.metrics(), "cached")),
      landing_pages_(Pages(worker.metrics(), "landing")),
      landings_(
          worker.metrics().Gauge("minicpmv_landings", "Landings granted and not yet closed.")),
      prompt_steps_(StepSeconds(worker.metrics(), "prefill")),
      decode_steps_(StepSeconds(worker.metrics(), "decode")),
      mixed_steps_(StepSeconds(worker.metrics(), "mixed")),
      sequences_(worker.metrics().Histogram("minicpmv_batch_sequences", "Sequences of a step.",
                                            kCountBuckets)),
      rows_(worker.metrics().Histogram("minicpmv_batch_tokens", "Positions of a step.",
                                       kCountBuckets)),
      board_entry_(worker.board().Add([this](control::v1::WorkerLoad& load) { Report(load); })),
      refresh_(worker.metrics().before_each_text().Add([this] { Refresh(); })) {
  CHECK(model.has_engine());
  engine().WatchSteps([this](const StepReport& report) { OnStep(report); });
}

EngineRoom::~EngineRoom() { engine().WatchSteps(nullptr); }

void EngineRoom::Rate::Add(int64_t more, absl::Duration busy) {
  if (more == 0) return;
  units = kKept * units + static_cast<double>(more);
  seconds = kKept * seconds + absl::ToDoubleSeconds(busy);
}

void EngineRoom::OnStep(const StepReport& report) {
  const bool is_prompt = report.decode_rows == 0;
  const bool is_decode = report.prompt_rows == 0;
  prometheus::Histogram& steps = is_prompt   ? prompt_steps_
                                 : is_decode ? decode_steps_
                                             : mixed_steps_;
  steps.Observe(absl::ToDoubleSeconds(report.busy));
  sequences_.Observe(static_cast<double>(report.sequences));
  rows_.Observe(static_cast<double>(report.prompt_rows + report.decode_rows));
  if (IsTracing()) {
    const absl::Time now = clock().Now();
    TraceCommon(TraceRow::kStep, "step", now - report.busy, now,
                {{"sequences", report.sequences},
                 {"prompt_rows", report.prompt_rows},
                 {"decode_rows", report.decode_rows}});
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  prompt_rate_.Add(report.prompt_rows, report.busy);
  decode_rate_.Add(report.decode_rows, report.busy);
}

void EngineRoom::CountPrompt(int64_t text, int64_t media, int64_t cached) {
  text_tokens_.Increment(static_cast<double>(text));
  media_tokens_.Increment(static_cast<double>(media));
  cached_tokens_.Increment(static_cast<double>(cached));
}

void EngineRoom::CountEnding(const absl::Status& status) {
  if (absl::IsInternal(status)) nan_logits_.Increment();
}

void EngineRoom::Refresh() {
  const EngineStats stats = engine().stats();
  free_pages_.Set(static_cast<double>(stats.free_pages));
  held_pages_.Set(static_cast<double>(stats.held_pages));
  cached_pages_.Set(static_cast<double>(stats.cached_pages));
  landing_pages_.Set(static_cast<double>(stats.landing_pages));
  landings_.Set(static_cast<double>(worker_.landings().open()));
  RaiseTo(preemptions_, stats.preempted);
  RaiseTo(prefix_query_tokens_, stats.prefix_query_tokens);
  RaiseTo(prefix_hit_tokens_, stats.prefix_hit_tokens);
}

void EngineRoom::Report(control::v1::WorkerLoad& load) {
  const EngineStats stats = engine().stats();
  control::v1::PageCounts& pages = *load.mutable_pages();
  pages.set_free(static_cast<uint32_t>(stats.free_pages));
  pages.set_held(static_cast<uint32_t>(stats.held_pages));
  pages.set_cached(static_cast<uint32_t>(stats.cached_pages));
  pages.set_landing(static_cast<uint32_t>(stats.landing_pages));
  const std::lock_guard<std::mutex> lock(mutex_);
  for (control::v1::RoleLoad& role : *load.mutable_roles()) {
    if (role.role() == common::v1::ROLE_PREFILL) {
      role.set_outstanding(static_cast<uint64_t>(std::max<int64_t>(0, outstanding_)));
      role.set_rate(prompt_rate_.per_second());
    } else if (role.role() == common::v1::ROLE_DECODE) {
      role.set_outstanding(role.running());
      role.set_rate(decode_rate_.per_second());
    } else {
      continue;
    }
    if (!stats.step_since) continue;
    *role.mutable_step_age() = ToProto(clock().Now() - *stats.step_since);
    *role.mutable_predicted_step() = ToProto(stats.predicted_step);
  }
}

}  // namespace minicpmv
