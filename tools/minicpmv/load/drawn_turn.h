#pragma once

#include <random>
#include <string>
#include <vector>

#include "tools/minicpmv/load/load_plan.h"

namespace minicpmv {

// What a user shows and says in one turn.
struct DrawnTurn {
  std::vector<std::string> pictures;  // PNG
  std::string text;
};

// `text` is the conversation's own, from turn to turn: seeded with its text_seed before the first.
DrawnTurn DrawTurn(const PlannedTurn& planned, double tokens_per_word, std::mt19937_64& text);

}  // namespace minicpmv
