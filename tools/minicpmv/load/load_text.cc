#include "tools/minicpmv/load/load_text.h"

#include <iterator>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace minicpmv {
namespace {

constexpr absl::string_view kWords[] = {
    "the",   "image", "shows", "a",     "red",    "circle", "and",   "two",   "blue",  "squares",
    "near",  "left",  "of",    "green", "corner", "what",   "is",    "under", "large", "small",
    "house", "tree",  "there", "are",   "three",  "people", "in",    "front", "water", "road",
    "tell",  "me",    "how",   "many",  "can",    "you",    "see",   "light", "dark",  "letters",
    "on",    "table", "which", "one",   "comes",  "first",  "write", "down",
};

}  // namespace

int64_t LoadWords() { return std::size(kWords); }

std::string AllWords(int times) {
  std::vector<absl::string_view> words;
  for (int i = 0; i < times; ++i) words.insert(words.end(), std::begin(kWords), std::end(kWords));
  return absl::StrJoin(words, " ");
}

std::string DrawText(int64_t words, std::mt19937_64& random) {
  std::uniform_int_distribution<size_t> number(0, std::size(kWords) - 1);
  std::vector<absl::string_view> drawn;
  for (int64_t i = 0; i < words; ++i) drawn.push_back(kWords[number(random)]);
  return absl::StrJoin(drawn, " ");
}

}  // namespace minicpmv
