#include "tools/minicpmv/load/drawn_turn.h"

#include <algorithm>
#include <cmath>

#include "tools/minicpmv/load/drawn_picture.h"
#include "tools/minicpmv/load/load_text.h"

namespace minicpmv {

DrawnTurn DrawTurn(const PlannedTurn& planned, double tokens_per_word, std::mt19937_64& text) {
  DrawnTurn turn;
  for (const PlannedPicture& picture : planned.pictures) {
    turn.pictures.push_back(DrawPicture(picture.width, picture.height, picture.seed));
  }
  const auto words = static_cast<int64_t>(
      std::llround(static_cast<double>(planned.text_tokens) / tokens_per_word));
  turn.text = DrawText(std::max<int64_t>(1, words), text);
  return turn;
}

}  // namespace minicpmv
