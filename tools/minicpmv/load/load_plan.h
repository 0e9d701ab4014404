#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace minicpmv {

// What a conversation shows: nothing, one picture, or several.
enum class LoadClass { kText, kImage, kImages };
inline constexpr std::array<LoadClass, 3> kLoadClasses = {LoadClass::kText, LoadClass::kImage,
                                                          LoadClass::kImages};
absl::string_view NameOf(LoadClass load_class);

// What of a served model a load depends on.
struct LoadModel {
  int64_t context_tokens = 0;  // prompt and reply together; at least kLeastContext
  int64_t max_slices = 1;      // of a picture, its overview not counted
  int64_t slice_tokens = 0;
};
inline constexpr int64_t kLeastContext = 256;

// A share for each class, in any unit.
using LoadMix = std::array<double, kLoadClasses.size()>;

struct LoadOptions {
  double rate = 1;  // conversations a second, all classes together
  absl::Duration duration = absl::Seconds(60);
  LoadMix mix = {6, 3, 1};
  // The shape of the Gamma distribution of the time between two arrivals: 1 is Poisson, less comes
  // in bursts.
  double burstiness = 1;
  double scale = 1;  // of lengths and of pictures' areas, to those of the published trace
  double turns = 2;  // of a conversation, in the mean; at least 1
  absl::Duration think = absl::Seconds(1);  // in the mean, from a reply's end to the next turn
  uint64_t seed = 1;
};

struct PlannedPicture {
  int width = 0, height = 0;
  uint64_t seed = 0;  // of what it shows
};

struct PlannedTurn {
  absl::Duration think;  // since the end of the reply before; zero for the first
  int64_t text_tokens = 0;
  int64_t output_tokens = 0;
  std::vector<PlannedPicture> pictures;
};

struct PlannedConversation {
  absl::Duration arrival;  // since the start
  LoadClass load_class = LoadClass::kText;
  int64_t max_slices = 1;  // of each picture
  uint64_t text_seed = 0;
  std::vector<PlannedTurn> turns;  // at least one; pictures are in the first
};

// A load, in the order of arrivals. The same arguments always make the same one.
//
// Each class arrives by itself, so that bursts of pictures do not wait for bursts of text. Lengths,
// pictures' sizes and their number follow log-normal fits through the points published of a week
// of multimodal requests (Azure, October 2024): the input of the first turn, pictures included, and
// the output of every turn; a later turn asks a short question. All of a conversation is cut to
// what the model's context holds.
std::vector<PlannedConversation> PlanLoad(const LoadOptions& options, const LoadModel& model);

}  // namespace minicpmv
