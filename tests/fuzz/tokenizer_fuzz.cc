// Files of a tokenizer from a stranger, and a text. The first byte says what the parts, which lines
// of "----" divide, are:
//   1  tokenizer.json, nothing, added_tokens.json, tokenizer_config.json, text
//   2  vocab.json, merges.txt, added_tokens.json, tokenizer_config.json, text
//   3  pattern, merges (a line each), tags (a line each), nothing, text: a sound vocabulary is made
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/check.h"
#include "runtime/text/byte_alphabet.h"
#include "runtime/text/detokenizer.h"
#include "runtime/text/nfc.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"

namespace minicpmv {
namespace {

using Json = nlohmann::json;

// Not every pattern, merge or tag is sound; the vocabulary is, unless it is not UTF-8.
std::string SoundTokenizerJson(absl::string_view pattern, absl::string_view merges,
                               absl::string_view tags) {
  Json vocab = Json::object();
  const auto add = [&vocab](absl::string_view token) {
    vocab.emplace(std::string(token), vocab.size());  // keeps the id of one that is there
  };
  for (int byte = 0; byte < 256; ++byte) add(SpellingOf(static_cast<uint8_t>(byte)));
  Json merge_list = Json::array();
  for (const absl::string_view line : absl::StrSplit(merges, '\n')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, ' ');
    if (parts.size() == 2) {
      for (const absl::string_view part : parts) add(part);
      add(absl::StrCat(parts[0], parts[1]));
    }
    merge_list.push_back(std::string(line));
  }
  Json tag_list = Json::array();
  for (const absl::string_view line : absl::StrSplit(tags, '\n')) {
    const auto token = vocab.find(std::string(line));
    const size_t id = token == vocab.end() ? 100'000 + tag_list.size() : token->get<size_t>();
    tag_list.push_back({{"content", std::string(line)}, {"id", id}});
  }
  Json split = {{"type", "Split"}, {"behavior", "Isolated"}};
  split["pattern"]["Regex"] = std::string(pattern);
  Json file;
  file["model"] = {{"type", "BPE"}, {"ignore_merges", merges.size() % 2 == 1}};
  file["model"]["vocab"] = std::move(vocab);
  file["model"]["merges"] = std::move(merge_list);
  file["pre_tokenizer"]["type"] = "Sequence";
  file["pre_tokenizer"]["pretokenizers"] = Json::array({split, {{"type", "ByteLevel"}}});
  file["normalizer"]["type"] = "NFC";
  file["added_tokens"] = std::move(tag_list);
  return file.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void CheckRoundTrip(const Tokenizer& tokenizer, const std::string& text, Tags tags, bool is_nfc) {
  const auto ids = tokenizer.Encode(text, tags);
  if (!ids.ok()) return;
  Detokenizer detokenizer(tokenizer);
  std::string joined;
  for (const int32_t id : *ids) {
    CHECK(id >= 0 && id < tokenizer.size()) << id;
    joined += detokenizer.Push(id);
  }
  joined += detokenizer.Finish();
  CHECK(joined == tokenizer.Decode(*ids));
  CHECK(!FindInvalidUtf8(joined).has_value());
  if (!is_nfc || tags == Tags::kTokens) return;
  std::string storage;
  CHECK(joined == ToNfc(text, storage)) << joined;
}

}  // namespace
}  // namespace minicpmv

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace minicpmv;
  if (size == 0) return 0;
  const absl::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::vector<std::string> parts = absl::StrSplit(input, "\n----\n");
  const auto part = [&](size_t i) {
    return i < parts.size() ? std::optional(parts[i]) : std::nullopt;
  };
  const std::string text = part(4).value_or("It's <s>hello 12\n");
  const bool sound = data[0] == '3';
  TokenizerFiles files;
  files.folder = "fuzz";
  if (sound) {
    files.tokenizer_json =
        SoundTokenizerJson(part(0).value(), part(1).value_or(""), part(2).value_or(""));
  } else {
    (data[0] == '1' ? files.tokenizer_json : files.vocab_json) = part(0);
    files.merges_txt = part(1);
    files.added_tokens_json = part(2);
    files.tokenizer_config_json = part(3);
  }
  const auto tokenizer = Tokenizer::Create(files);
  if (!tokenizer.ok()) return 0;
  CheckRoundTrip(**tokenizer, text, Tags::kText, sound);
  CheckRoundTrip(**tokenizer, text, Tags::kTokens, sound);
  return 0;
}
