#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "runtime/text/bpe.h"

namespace minicpmv {

// The texts of a tokenizer's files, unread. What a folder does not hold is nothing.
struct TokenizerFiles {
  std::string folder;  // stands before the names of the files in errors
  std::optional<std::string> tokenizer_json;
  std::optional<std::string> vocab_json;
  std::optional<std::string> merges_txt;
  std::optional<std::string> added_tokens_json;
  std::optional<std::string> tokenizer_config_json;
};

// NOT_FOUND: no such folder. OUT_OF_RANGE: a file over 32 MiB. Files that are not there are no
// error here.
absl::StatusOr<TokenizerFiles> ReadTokenizerFiles(const std::string& folder);

// What the files say, checked: ids are unique and in [0, 2^20), every byte has a token, merges name
// tokens.
struct TokenizerSpec {
  absl::flat_hash_map<std::string, int32_t> vocabulary;  // in the spelling of byte_alphabet.h
  std::vector<Bpe::Merge> merges;                        // in the order of their ranks
  // As they stand in a text. Some are in the vocabulary, too.
  std::vector<std::pair<std::string, int32_t>> tags;
  std::string pattern;         // cuts a text into pieces
  std::string pattern_source;  // where it stands, for errors
  bool nfc = true;             // texts are normalised before they are cut
  // A piece that is a token is that token, whatever the merges make of it.
  bool ignore_merges = false;
};

// tokenizer.json alone says all; without it vocab.json and merges.txt do, with the Qwen2 pattern.
// In both cases added_tokens.json and the added_tokens_decoder of tokenizer_config.json may add
// tags.
//
// NOT_FOUND: neither is there, or one of the two. INVALID_ARGUMENT: not what such a file holds.
// UNIMPLEMENTED: a kind of tokenizer other than byte-level BPE, or tags that swallow the spaces
// around them.
absl::StatusOr<TokenizerSpec> ParseTokenizerFiles(const TokenizerFiles& files);

}  // namespace minicpmv
