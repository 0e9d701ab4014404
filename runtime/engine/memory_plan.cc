#include "runtime/engine/memory_plan.h"

#include <algorithm>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"
#include "runtime/kv/page_table.h"

namespace minicpmv {
namespace {

constexpr int64_t kMostPages = std::numeric_limits<int32_t>::max();

absl::Status Refuse(absl::string_view split, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("split ", Quoted(split), ": ", why));
}

// Digits only: SimpleAtoi alone would let signs and blanks pass.
bool ParseLayer(absl::string_view text, int64_t* layer) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return !text.empty() && std::all_of(text.begin(), text.end(), is_digit) &&
         absl::SimpleAtoi(text, layer);
}

}  // namespace

absl::StatusOr<std::vector<LayerRange>> BalanceLayers(const DecoderBytes& bytes, int stages) {
  const int64_t layers = static_cast<int64_t>(bytes.layers.size());
  if (stages < 1 || stages > layers) {
    return absl::InvalidArgumentError(
        absl::StrCat(layers, " layers cannot be split over ", stages, " stages"));
  }
  std::vector<uint64_t> before(layers + 1, 0);  // bytes of the layers before this one
  for (int64_t i = 0; i < layers; ++i) before[i + 1] = before[i] + bytes.layers[i];

  // smallest[s][first]: the largest stage when layers [first, layers) are split over s stages.
  std::vector<std::vector<uint64_t>> smallest(
      stages + 1, std::vector<uint64_t>(layers + 1, std::numeric_limits<uint64_t>::max()));
  const auto largest_with = [&](int s, int64_t first, int64_t next) {
    return std::max(before[next] - before[first], smallest[s - 1][next]);
  };
  for (int64_t first = 0; first < layers; ++first) {
    smallest[1][first] = before[layers] - before[first] + bytes.head;
  }
  for (int s = 2; s <= stages; ++s) {
    for (int64_t first = 0; first + s <= layers; ++first) {
      for (int64_t next = first + 1; next + s - 1 <= layers; ++next) {
        smallest[s][first] = std::min(smallest[s][first], largest_with(s, first, next));
      }
    }
  }

  const uint64_t limit = smallest[stages][0];
  std::vector<LayerRange> ranges;
  int64_t first = 0;
  for (int s = stages; s > 1; --s) {
    int64_t next = layers - (s - 1);
    while (largest_with(s, first, next) > limit) --next;
    ranges.push_back({first, next});
    first = next;
  }
  ranges.push_back({first, layers});
  return ranges;
}

absl::StatusOr<std::vector<LayerRange>> ParseSplit(absl::string_view text, int64_t layers,
                                                   int stages) {
  std::vector<LayerRange> ranges;
  int64_t expected = 0;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> ends = absl::StrSplit(part, '-');
    int64_t first = 0;
    int64_t last = 0;
    if (ends.size() > 2 || !ParseLayer(ends.front(), &first) || !ParseLayer(ends.back(), &last)) {
      return Refuse(text, absl::StrCat(Quoted(part), " is no run of layers like 0-2 or 3"));
    }
    if (last < first) {
      return Refuse(text, absl::StrCat(Quoted(part), " ends before it begins"));
    }
    if (last >= layers) {
      return Refuse(text, absl::StrCat("there is no layer ", last, ": the model has ", layers,
                                       ", counted from 0"));
    }
    if (first > expected) {
      return Refuse(text, absl::StrCat("layer ", expected, " is missing before ", Quoted(part)));
    }
    if (first < expected) {
      return Refuse(text, absl::StrCat("layer ", first, " of ", Quoted(part), " comes again"));
    }
    ranges.push_back({first, last + 1});
    expected = last + 1;
  }
  if (expected < layers) {
    return Refuse(text, absl::StrCat("layer ", expected, " is missing at the end"));
  }
  if (static_cast<int>(ranges.size()) != stages) {
    return Refuse(text, absl::StrCat(ranges.size(), " runs of layers for ", stages, " devices"));
  }
  return ranges;
}

absl::StatusOr<int64_t> PagesWithin(const std::vector<StageRoom>& rooms) {
  int64_t pages = kMostPages;
  for (size_t i = 0; i < rooms.size(); ++i) {
    const uint64_t fitting = rooms[i].budget / std::max<uint64_t>(1, rooms[i].page_bytes);
    if (fitting == 0) {
      return absl::ResourceExhaustedError(absl::StrCat("stage ", i, " has ", rooms[i].budget,
                                                       " bytes for the cache, and one page ",
                                                       "takes ", rooms[i].page_bytes));
    }
    pages = std::min<uint64_t>(pages, fitting);
  }
  return pages;
}

int64_t PagesForSequences(int64_t sequences, int64_t tokens) {
  int64_t pages = 0;
  if (__builtin_mul_overflow(PagesFor(tokens), sequences, &pages)) return kMostPages;
  return std::min(pages, kMostPages);
}

}  // namespace minicpmv
