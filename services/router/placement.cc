#include "services/router/placement.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "services/common/fleet_names.h"
#include "services/router/stable_hash.h"

namespace minicpmv::router {
namespace {

using common::v1::Role;
using Views = std::vector<const WorkerView*>;

// What a sequence is given beyond its tokens when it is let in, as workers do.
constexpr int64_t kHeadroom = 256;
// Prompts at one prefill worker: one is computed, one lands, and more would only hold pages.
constexpr int64_t kMaxPrefills = 4;
// Slices that wait at one vision worker.
constexpr int64_t kMaxSlices = 64;
// By how much a worker may have more to do than the average and still be given what belongs to it.
constexpr double kBoundedLoad = 1.25;
// What it costs to have a helper, in slices: pixels travel, a call is opened.
constexpr double kHelpCosts = 0.25;
constexpr double kUnknownLinkRate = 1e9;  // bytes a second

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Work is asked of them only if they are the last.
Views WithoutFailed(const Views& workers, const std::set<std::string>& failed) {
  Views others;
  for (const WorkerView* const worker : workers) {
    if (!failed.contains(worker->name.incarnation)) others.push_back(worker);
  }
  return others.empty() ? workers : others;
}

absl::StatusOr<Views> Playing(Role role, const FleetSnapshot& fleet) {
  Views workers;
  for (const WorkerView& worker : fleet.workers) {
    if (worker.Plays(role)) workers.push_back(&worker);
  }
  if (!workers.empty()) return workers;
  return absl::UnavailableError(absl::StrCat("no ", minicpmv::NameOf(role), " worker is ready"));
}

Views InClass(const Views& workers, absl::string_view numerics_class) {
  Views same;
  for (const WorkerView* const worker : workers) {
    if (worker->numerics_class == numerics_class) same.push_back(worker);
  }
  return same.empty() ? workers : same;
}

const WorkerView::RoleView& RoleOf(const WorkerView& worker, Role role) {
  const auto found = worker.roles.find(role);
  CHECK(found != worker.roles.end()) << worker.name.id;
  return found->second;
}

// What to assume of workers that nobody has measured yet: as the others are.
double TypicalRate(const Views& workers, Role role) {
  double sum = 0;
  int known = 0;
  for (const WorkerView* const worker : workers) {
    const double rate = RoleOf(*worker, role).rate;
    if (rate <= 0) continue;
    sum += rate;
    ++known;
  }
  return known == 0 ? 1 : sum / known;
}

double RateOf(const WorkerView& worker, Role role, double typical) {
  const double rate = RoleOf(worker, role).rate;
  return rate > 0 ? rate : typical;
}

uint64_t Rank(uint64_t key, const WorkerView& worker) {
  return StableHash().Add(key).Add(worker.name.id).value();
}

const WorkerView* First(const Views& workers, uint64_t key) {
  return *std::max_element(workers.begin(), workers.end(), [key](const auto* a, const auto* b) {
    return Rank(key, *a) < Rank(key, *b);
  });
}

// The worker to which conversations that begin like this belong, unless it has more than its share
// to do.
const WorkerView* Belonging(const Views& workers, Role role, uint64_t key) {
  if (workers.empty()) return nullptr;
  const WorkerView* const first = First(workers, key);
  int64_t calls = 0;
  for (const WorkerView* const worker : workers) calls += RoleOf(*worker, role).calls;
  const auto most = static_cast<int64_t>(kBoundedLoad * static_cast<double>(calls + 1) /
                                         static_cast<double>(workers.size()));
  const bool has_room = RoleOf(*first, role).calls + 1 <= std::max<int64_t>(most, 1);
  return has_room ? first : nullptr;
}

// Pages that a sequence of so many tokens needs there; a worker's whole pool is always enough to
// ask it.
int64_t PagesFor(int64_t tokens, const WorkerView& worker) {
  const int64_t pages = CeilDiv(tokens, worker.page_tokens);
  return worker.all_pages > 0 ? std::min(pages, worker.all_pages) : pages;
}

bool CouldHold(const Job& job, const WorkerView& worker) {
  return worker.max_sequence_tokens <= 0 || job.tokens + 1 <= worker.max_sequence_tokens;
}

struct Choice {
  const WorkerView* decode = nullptr;
  const WorkerView* prefill = nullptr;
};

class Placing {
 public:
  Placing(const Job& job, Views decoders, Views prefills)
      : job_(job),
        decode_rate_(TypicalRate(decoders, common::v1::ROLE_DECODE)),
        prefill_rate_(TypicalRate(prefills, common::v1::ROLE_PREFILL)),
        decoders_(Usable(decoders, common::v1::ROLE_DECODE)),
        prefills_(Usable(prefills, common::v1::ROLE_PREFILL)),
        own_decode_(Belonging(decoders_, common::v1::ROLE_DECODE, job.beginning)),
        own_prefill_(Belonging(prefills_, common::v1::ROLE_PREFILL, job.beginning)) {}

  // Nothing where there is no room.
  Choice Best() const {
    Choice best;
    double least = std::numeric_limits<double>::infinity();
    for (const WorkerView* const decode : decoders_) {
      for (const WorkerView* const prefill : prefills_) {
        const double seconds = Seconds(*decode, *prefill);
        if (seconds >= least) continue;
        least = seconds;
        best = {decode, prefill};
      }
    }
    return best;
  }

  int64_t DecodePages(const WorkerView& worker) const {
    return PagesFor(job_.tokens + std::min(job_.new_tokens, kHeadroom), worker);
  }
  int64_t PrefillPages(const WorkerView& worker) const { return PagesFor(job_.tokens, worker); }

 private:
  Views Usable(const Views& workers, Role role) const {
    Views usable;
    for (const WorkerView* const worker : WithoutFailed(workers, job_.failed)) {
      const WorkerView::RoleView& view = RoleOf(*worker, role);
      const bool is_prefill = role == common::v1::ROLE_PREFILL;
      const int64_t pages = is_prefill ? PrefillPages(*worker) : DecodePages(*worker);
      const int64_t wanted = pages + job_.spare_pages;
      const bool is_empty = worker->all_pages > 0 && worker->pages >= worker->all_pages;
      if (view.is_full || !CouldHold(job_, *worker)) continue;
      if (worker->pages < wanted && !is_empty) continue;
      if (is_prefill && view.calls >= kMaxPrefills) continue;
      usable.push_back(worker);
    }
    return job_.numerics_class.empty() ? usable : InClass(usable, job_.numerics_class);
  }

  // Until the reply has ended, as far as the choice makes a difference.
  double Seconds(const WorkerView& decode, const WorkerView& prefill) const {
    const auto tokens = static_cast<double>(job_.tokens);
    const WorkerView::RoleView& computing = RoleOf(prefill, common::v1::ROLE_PREFILL);
    const double rate = RateOf(prefill, common::v1::ROLE_PREFILL, prefill_rate_);
    double seconds = (static_cast<double>(computing.outstanding) + tokens) / rate;
    if (&decode != &prefill) {
      const auto link = prefill.link_rates.find(decode.name.id);
      const bool is_known = link != prefill.link_rates.end() && link->second > 0;
      seconds += tokens * static_cast<double>(job_.bytes_per_token) /
                 (is_known ? link->second : kUnknownLinkRate);
    }
    const WorkerView::RoleView& answering = RoleOf(decode, common::v1::ROLE_DECODE);
    const auto replies = static_cast<double>(answering.calls + 1);
    const auto to_come = static_cast<double>(std::min(job_.new_tokens, kHeadroom));
    seconds += to_come * replies / RateOf(decode, common::v1::ROLE_DECODE, decode_rate_);
    // Who has answered the conversation's earlier turns holds pages of it, each side its own.
    if (&decode == own_decode_) seconds -= tokens / prefill_rate_ / 2;
    if (&prefill == own_prefill_) seconds -= tokens / prefill_rate_ / 2;
    return seconds;
  }

  const Job& job_;
  const double decode_rate_, prefill_rate_;
  const Views decoders_, prefills_;
  const WorkerView* const own_decode_;
  const WorkerView* const own_prefill_;
};

}  // namespace

absl::StatusOr<Placement> Place(const Job& job, const FleetSnapshot& fleet) {
  ASSIGN_OR_RETURN(const Views decoders, Playing(common::v1::ROLE_DECODE, fleet));
  ASSIGN_OR_RETURN(const Views prefills, Playing(common::v1::ROLE_PREFILL, fleet));
  for (const Views* const workers : {&decoders, &prefills}) {
    const bool could = std::any_of(workers->begin(), workers->end(),
                                   [&](const auto* worker) { return CouldHold(job, *worker); });
    if (could) continue;
    return absl::OutOfRangeError(absl::StrCat("the request has ", job.tokens,
                                              " tokens, more than any worker has pages for"));
  }
  if (job.has_media) {
    ASSIGN_OR_RETURN(const Views vision, Playing(common::v1::ROLE_VISION, fleet));
    const bool has_room = std::any_of(vision.begin(), vision.end(), [](const auto* worker) {
      const WorkerView::RoleView& view = RoleOf(*worker, common::v1::ROLE_VISION);
      return !view.is_full && view.outstanding < kMaxSlices;
    });
    if (!has_room) return absl::ResourceExhaustedError("all vision workers have enough to do");
  }
  const Placing placing(job, decoders, prefills);
  const Choice best = placing.Best();
  if (best.decode == nullptr) {
    return absl::ResourceExhaustedError("prefill and decode workers have no room now");
  }
  Placement placement;
  placement.decode = best.decode->name;
  placement.prefill = best.prefill->name;
  placement.numerics_class = best.decode->numerics_class;
  placement.decode_work = {1, placing.DecodePages(*best.decode)};
  // A landing is adopted where both are one: its pages are the only ones.
  placement.prefill_work = {job.tokens,
                            best.decode == best.prefill ? 0 : placing.PrefillPages(*best.prefill)};
  return placement;
}

absl::StatusOr<WorkerName> HomeOf(absl::string_view cache_scope, absl::string_view digest,
                                  const std::set<std::string>& failed, const FleetSnapshot& fleet) {
  ASSIGN_OR_RETURN(const Views vision, Playing(common::v1::ROLE_VISION, fleet));
  const Views usable = WithoutFailed(vision, failed);
  Views light;
  int64_t all = 0;
  for (const WorkerView* const worker : usable) {
    all += RoleOf(*worker, common::v1::ROLE_VISION).outstanding;
  }
  const double average = static_cast<double>(all) / static_cast<double>(usable.size());
  for (const WorkerView* const worker : usable) {
    const auto slices = static_cast<double>(RoleOf(*worker, common::v1::ROLE_VISION).outstanding);
    if (slices < kMaxSlices || slices <= kBoundedLoad * average) light.push_back(worker);
  }
  const uint64_t key = StableHash().Add(cache_scope).Add(digest).value();
  return First(light.empty() ? usable : light, key)->name;
}

std::vector<std::vector<SliceShare>> ShareSlices(absl::Span<const MediumSlices> media,
                                                 const std::set<std::string>& failed,
                                                 const FleetSnapshot& fleet) {
  struct Load {
    const WorkerView* worker;
    double seconds;  // until it has done what it was given
    double slice;    // seconds for one
  };
  std::vector<Load> loads;
  if (const auto vision = Playing(common::v1::ROLE_VISION, fleet); vision.ok()) {
    const double typical = TypicalRate(*vision, common::v1::ROLE_VISION);
    for (const WorkerView* const worker : *vision) {
      const double slice = 1 / RateOf(*worker, common::v1::ROLE_VISION, typical);
      const WorkerView::RoleView& view = RoleOf(*worker, common::v1::ROLE_VISION);
      if (failed.contains(worker->name.incarnation) || view.outstanding >= kMaxSlices ||
          view.is_full) {
        continue;
      }
      loads.push_back({worker, static_cast<double>(view.outstanding) * slice, slice});
    }
  }

  std::vector<std::vector<SliceShare>> shares;
  for (const MediumSlices& medium : media) {
    std::vector<SliceShare>& sharing = shares.emplace_back();
    sharing.push_back({medium.home, {}});
    // Of one picture nobody else is asked.
    const bool may_share = medium.spans.size() > 1;
    for (const uint32_t span : medium.spans) {
      Load* best = nullptr;
      double soonest = std::numeric_limits<double>::infinity();
      for (Load& load : loads) {
        const bool is_home = load.worker->name.incarnation == medium.home.incarnation;
        if (!is_home && (!may_share || sharing.front().spans.empty())) continue;
        const double costs = is_home ? 0 : kHelpCosts * load.slice;
        const double end = load.seconds + load.slice + costs;
        if (end < soonest) {
          soonest = end;
          best = &load;
        }
      }
      const WorkerName& taken = best == nullptr ? medium.home : best->worker->name;
      if (best != nullptr) best->seconds += best->slice;
      const auto share = std::find_if(sharing.begin(), sharing.end(), [&](const SliceShare& other) {
        return other.worker.incarnation == taken.incarnation;
      });
      if (share != sharing.end()) {
        share->spans.push_back(span);
      } else {
        sharing.push_back({taken, {span}});
      }
    }
  }
  return shares;
}

}  // namespace minicpmv::router
