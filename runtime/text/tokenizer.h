#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "runtime/text/bpe.h"
#include "runtime/text/byte_trie.h"
#include "runtime/text/splitter.h"
#include "runtime/text/tokenizer_files.h"

namespace minicpmv {

// How strings that spell special tokens ("<|im_end|>") inside a text are read: as any other text,
// or as those tokens.
enum class Tags { kText, kTokens };

// Byte-level BPE as the Hugging Face tokenizers library does it for this family: normalisation to
// NFC, a split by a regular expression, bytes, merges. No token is put in front or behind. Token
// ids need not be dense. Immutable; thread-safe.
//
// A special token is any that the files list as added (tokenizer.json's added_tokens,
// added_tokens.json, added_tokens_decoder), wherever its id lies: the 2.6 placeholder <unk> is an
// entry of the base vocabulary.
class Tokenizer {
 public:
  // From a folder: tokenizer.json, else vocab.json and merges.txt; added_tokens.json and
  // tokenizer_config.json for more specials. NOT_FOUND: the folder or what is needed of these is
  // missing. OUT_OF_RANGE: a file over 32 MiB. INVALID_ARGUMENT: a file does not hold what it
  // should. UNIMPLEMENTED: another kind of tokenizer. All name the file.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& folder);
  // The same from files in memory.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const TokenizerFiles& files);

  // Time is O(n log n) and memory about 40 bytes for each byte of the longest piece, whatever the
  // text.
  //
  // With kText no special token comes out of any text (but one that is the only spelling of its
  // byte, as "!" is in 2.5). With kTokens the text is cut at its special tokens first, before it is
  // normalised: the leftmost one, of several at one place the longest; what lies between is encoded
  // piece by piece.
  //
  // INVALID_ARGUMENT: not UTF-8, or over 1 GiB. RESOURCE_EXHAUSTED: the checkpoint's regular
  // expression backtracks too much.
  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text, Tags tags) const;

  // The id of a special token, by its exact spelling. Other tokens have none here.
  std::optional<int32_t> SpecialId(absl::string_view token) const;
  bool IsSpecial(int32_t id) const { return special_ids_.contains(id); }

  // The bytes of a token, which may begin or end inside a character. Empty for ids outside or
  // unused. Lives as long as this.
  absl::string_view BytesOf(int32_t id) const;
  // One past the largest id.
  int32_t size() const { return static_cast<int32_t>(starts_.size()) - 1; }

  // The text of tokens, special ones included. Bytes that are not UTF-8 become U+FFFD, one for each
  // maximal subpart.
  std::string Decode(absl::Span<const int32_t> ids) const;

 private:
  struct Room;  // scratch of one call

  Tokenizer(const TokenizerSpec& spec, std::unique_ptr<Splitter> splitter);
  absl::Status EncodeText(absl::string_view text, Room& room, std::vector<int32_t>& ids) const;
  // The longest special token that `text` starts with; its length is 0 when there is none.
  absl::string_view TagAtFront(absl::string_view text) const;

  const std::unique_ptr<Splitter> splitter_;
  const bool nfc_;
  std::string bytes_;             // of all tokens, by id
  std::vector<uint32_t> starts_;  // where each token's bytes start, and where the last one's end
  std::unique_ptr<Bpe> bpe_;
  // Tokens that skip the merges; empty unless the file says that they do. Keys look into bytes_.
  absl::flat_hash_map<absl::string_view, int32_t> whole_pieces_;
  absl::flat_hash_map<std::string, int32_t> specials_;
  absl::flat_hash_set<int32_t> special_ids_;
  ByteTrie tags_;                      // the specials' spellings
  absl::flat_hash_set<int32_t> ends_;  // nodes of tags_ where one ends
};

}  // namespace minicpmv
