#include "tools/minicpmv/load/load_plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "runtime/base/check.h"
#include "runtime/model/prompt.h"
#include "tools/minicpmv/load/log_normal.h"

namespace minicpmv {
namespace {

// Tokens that a message's marks and a picture's take beside what is in them: rather more.
constexpr int64_t kMessageTokens = 24, kSliceMarks = 3, kPictureMarks = 6;
// Of the context: words are counted in the mean only.
constexpr double kPlannedShare = 0.95;
// The most of the context that goes to pictures, and of what is left to a turn's output.
constexpr double kPicturesShare = 0.75, kOutputShare = 0.5;
// A question that follows, against one that begins.
constexpr double kLaterTextShare = 0.125;
constexpr int64_t kMaxTurns = 32;

constexpr double kMinSide = 14, kMaxSide = 4096;
constexpr double kMaxAspect = 4.0 / 3;

// The marginals. Text outputs have a sharp mode beside the log-normal rest, which is fitted so that
// both together have the median of 130 and 95 % below 700: 0.5 / 0.9 and 0.85 / 0.9 of its mass.
constexpr double kModeShare = 0.1, kMode = 200, kModeDeviation = 10;
constexpr double kRest50 = 0.13971, kRest95 = 1.59322;

LogNormal InputOf(LoadClass load_class) {
  return load_class == LoadClass::kText ? LogNormal::Through(kNormal50, 800, kNormal90, 3000)
                                        : LogNormal::Through(kNormal50, 1400, kNormal90, 9000);
}

double DrawOutput(LoadClass load_class, std::mt19937_64& random) {
  if (load_class != LoadClass::kText) {
    return LogNormal::Through(kNormal50, 80, kNormal95, 500).Draw(random);
  }
  if (std::bernoulli_distribution(kModeShare)(random)) {
    return std::normal_distribution<double>(kMode, kModeDeviation)(random);
  }
  return LogNormal::Through(kRest50, 130, kRest95, 700).Draw(random);
}

// Of requests that have pictures 66 % have one, 5 % four, 15 % nine, 2 % sixteen, 5 % twenty-five;
// the rest reach 150 at 95 % and 500 at 98 %.
int64_t DrawPictures(LoadClass load_class, std::mt19937_64& random) {
  if (load_class != LoadClass::kImages) return load_class == LoadClass::kImage ? 1 : 0;
  struct Point {
    double share, pictures;
  };
  constexpr Point kSteps[] = {{.71, 4}, {.86, 9}, {.88, 16}, {.93, 25}};
  constexpr Point kTail[] = {{.93, 25}, {.95, 150}, {.98, 500}};
  const double share = std::uniform_real_distribution<double>(.66, 1)(random);
  for (const Point& step : kSteps) {
    if (share < step.share) return static_cast<int64_t>(step.pictures);
  }
  const Point* from = kTail;
  if (share > from[1].share) ++from;  // the last line goes on
  const double way = (share - from[0].share) / (from[1].share - from[0].share);
  return std::llround(from[0].pictures * std::pow(from[1].pictures / from[0].pictures, way));
}

PlannedPicture DrawPicture(double scale, std::mt19937_64& random) {
  const double side =
      LogNormal::Through(kNormal50, 500, kNormal95, 1000).Draw(random) * std::sqrt(scale);
  const double aspect = std::exp(
      std::uniform_real_distribution<double>(-std::log(kMaxAspect), std::log(kMaxAspect))(random));
  const auto pixels = [](double length) {
    return static_cast<int>(std::lround(std::clamp(length, kMinSide, kMaxSide)));
  };
  return {pixels(side * std::sqrt(aspect)), pixels(side / std::sqrt(aspect)), random()};
}

// At most.
int64_t PictureTokens(int64_t max_slices, const LoadModel& model) {
  const int64_t slices = max_slices > 1 ? max_slices + 1 : 1;
  return slices * (model.slice_tokens + kSliceMarks) + kPictureMarks;
}

int64_t Scaled(double tokens, double scale) {
  return std::max<int64_t>(1, std::llround(std::min(tokens * scale, 1e9)));
}

// Turns after the first: another one each time with the same chance.
int64_t DrawTurns(double mean, std::mt19937_64& random) {
  if (mean <= 1) return 1;
  return std::min(kMaxTurns, 1 + std::geometric_distribution<int64_t>(1 / mean)(random));
}

PlannedConversation PlanConversation(const LoadOptions& options, const LoadModel& model,
                                     LoadClass load_class, uint64_t seed) {
  std::mt19937_64 random(seed);
  PlannedConversation conversation;
  conversation.load_class = load_class;
  conversation.text_seed = random();

  const auto context = static_cast<int64_t>(kPlannedShare * model.context_tokens);
  const auto pictures_room = static_cast<int64_t>(kPicturesShare * model.context_tokens);
  const int64_t most = std::clamp<int64_t>(pictures_room / PictureTokens(1, model), 1, kMaxImages);
  const int64_t pictures = std::min(most, DrawPictures(load_class, random));
  conversation.max_slices = std::max<int64_t>(1, model.max_slices);
  while (conversation.max_slices > 1 &&
         pictures * PictureTokens(conversation.max_slices, model) > pictures_room) {
    --conversation.max_slices;
  }
  const int64_t picture_tokens = pictures * PictureTokens(conversation.max_slices, model);

  const int64_t turns = DrawTurns(options.turns, random);
  int64_t used = picture_tokens;
  while (static_cast<int64_t>(conversation.turns.size()) < turns) {
    const bool is_first = conversation.turns.empty();
    const int64_t room = context - used - kMessageTokens;
    if (room < 2 && !is_first) break;
    PlannedTurn turn;
    turn.output_tokens =
        std::clamp<int64_t>(Scaled(DrawOutput(load_class, random), options.scale), 1,
                            std::max<int64_t>(1, static_cast<int64_t>(kOutputShare * room)));
    const double input = is_first ? InputOf(load_class).Draw(random)
                                  : kLaterTextShare * InputOf(LoadClass::kText).Draw(random);
    const int64_t wanted = Scaled(input, options.scale) - (is_first ? picture_tokens : 0);
    turn.text_tokens =
        std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, room - turn.output_tokens));
    if (is_first) {
      for (int64_t i = 0; i < pictures; ++i) {
        turn.pictures.push_back(DrawPicture(options.scale, random));
      }
    } else {
      turn.think = options.think * std::exponential_distribution<double>(1)(random);
    }
    used += kMessageTokens + turn.text_tokens + turn.output_tokens;
    conversation.turns.push_back(std::move(turn));
  }
  return conversation;
}

}  // namespace

absl::string_view NameOf(LoadClass load_class) {
  switch (load_class) {
    case LoadClass::kText:
      return "text";
    case LoadClass::kImage:
      return "image";
    case LoadClass::kImages:
      return "images";
  }
  return "";
}

std::vector<PlannedConversation> PlanLoad(const LoadOptions& options, const LoadModel& model) {
  CHECK_GE(model.context_tokens, kLeastContext);
  const double parts = std::accumulate(options.mix.begin(), options.mix.end(), 0.0);
  std::vector<PlannedConversation> plan;
  for (const LoadClass load_class : kLoadClasses) {
    const auto number = static_cast<size_t>(load_class);
    const double rate = options.rate * options.mix[number] / parts;
    if (!(rate > 0)) continue;
    std::seed_seq seeds = {static_cast<uint32_t>(options.seed),
                           static_cast<uint32_t>(options.seed >> 32),
                           static_cast<uint32_t>(number)};
    std::mt19937_64 random(seeds);
    std::gamma_distribution<double> gap(options.burstiness, 1 / (rate * options.burstiness));
    absl::Duration arrival;
    while ((arrival += absl::Seconds(gap(random))) < options.duration) {
      plan.push_back(PlanConversation(options, model, load_class, random()));
      plan.back().arrival = arrival;
    }
  }
  std::stable_sort(plan.begin(), plan.end(),
                   [](const PlannedConversation& a, const PlannedConversation& b) {
                     return a.arrival < b.arrival;
                   });
  return plan;
}

}  // namespace minicpmv
