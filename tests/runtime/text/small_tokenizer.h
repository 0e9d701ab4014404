#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/text/byte_alphabet.h"
#include "runtime/text/tokenizer.h"

namespace minicpmv {

// vocab.json: a token for each byte (its own value the id), then the given ones from 256 on.
inline nlohmann::json SmallVocabulary(const std::vector<std::string>& more) {
  nlohmann::json vocab = nlohmann::json::object();
  for (int byte = 0; byte < 256; ++byte) vocab[std::string(SpellingOf(byte))] = byte;
  for (size_t i = 0; i < more.size(); ++i) vocab[more[i]] = 256 + i;
  return vocab;
}

// Merges "he", "ll", "hell" and "hello"; <s> is 300 and <s><s> 301.
inline TokenizerFiles SmallFiles() {
  TokenizerFiles files;
  files.folder = "small";
  files.vocab_json = SmallVocabulary({"he", "ll", "hell", "hello"}).dump();
  files.merges_txt = "#version: 0.2\nh e\nl l\nhe ll\nhell o\n";
  files.added_tokens_json = R"({"<s>": 300, "<s><s>": 301})";
  return files;
}

// The same as tokenizer.json, parsed, to be changed by a test.
inline nlohmann::json SmallTokenizerJson() {
  constexpr absl::string_view kPattern =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  nlohmann::json file;
  file["model"] = {{"type", "BPE"}, {"merges", {"h e", "l l", "he ll", "hell o"}}};
  file["model"]["vocab"] = SmallVocabulary({"he", "ll", "hell", "hello"});
  file["normalizer"] = {{"type", "NFC"}};
  nlohmann::json split = {{"type", "Split"}, {"behavior", "Isolated"}, {"invert", false}};
  split["pattern"]["Regex"] = kPattern;
  const nlohmann::json bytes = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  file["pre_tokenizer"] = {{"type", "Sequence"},
                           {"pretokenizers", nlohmann::json::array({split, bytes})}};
  file["added_tokens"] = nlohmann::json::array(
      {{{"id", 300}, {"content", "<s>"}}, {{"id", 301}, {"content", "<s><s>"}}});
  return file;
}

inline TokenizerFiles FilesOf(const nlohmann::json& tokenizer_json) {
  TokenizerFiles files;
  files.folder = "small";
  files.tokenizer_json = tokenizer_json.dump();
  return files;
}

}  // namespace minicpmv
