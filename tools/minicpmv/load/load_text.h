#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace minicpmv {

// How many different words there are.
int64_t LoadWords();

// Every word once, in their order, so many times over: what shows how many tokens a word has in the
// mean.
std::string AllWords(int times);

// So many words, each as likely as any other.
std::string DrawText(int64_t words, std::mt19937_64& random);

}  // namespace minicpmv
