#include "services/common/engine_room.h"

#include <algorithm>

#include "runtime/base/check.h"

namespace minicpmv {
namespace {

prometheus::Counter& PromptTokens(Metrics& metrics, const char* kind) {
  return metrics.Counter("minicpmv_prompt_tokens_total",
                         "Prompt positions computed (text, media) or found (cached).",
                         {{"kind", kind}});
}

prometheus::Gauge& Pages(Metrics& metrics, const char* state) {
  return metrics.Gauge("minicpmv_pages", "Pages of the cache by what holds them.",
                       {{"state", state}});
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
      prefix_query_tokens_(
          worker.metrics().Counter("minicpmv_prefix_query_tokens_total",
                                   "Positions that the prefix index was asked for.")),
      prefix_hit_tokens_(worker.metrics().Counter("minicpmv_prefix_hit_tokens_total",
                                                  "Positions that the prefix index held.")),
      free_pages_(Pages(worker.metrics(), "free")),
      held_pages_(Pages(worker.metrics(), "held")),
      cached_pages_(Pages(worker.metrics(), "cached")),
      landing_pages_(Pages(worker.metrics(), "landing")),
      landings_(worker.metrics().Gauge("minicpmv_landings", "Landings granted and not yet closed.")),
      board_entry_(worker.board().Add([this](control::v1::WorkerLoad& load) { Report(load); })),
      refresh_(worker.metrics().before_each_text().Add([this] { Refresh(); })) {
  CHECK(model.has_engine());
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
  for (control::v1::RoleLoad& role : *load.mutable_roles()) {
    if (role.role() == common::v1::ROLE_PREFILL) {
      role.set_outstanding(static_cast<uint64_t>(std::max<int64_t>(0, outstanding_)));
    } else if (role.role() == common::v1::ROLE_DECODE) {
      role.set_outstanding(role.running());
    }
  }
}

}  // namespace minicpmv
