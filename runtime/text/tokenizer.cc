#include "runtime/text/tokenizer.h"

#include <algorithm>
#include <array>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/text/byte_alphabet.h"
#include "runtime/text/nfc.h"
#include "runtime/text/utf8.h"

namespace minicpmv {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;

}  // namespace

struct Tokenizer::Room {
  Bpe::Scratch bpe;
  std::string normalised;
};

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& folder) {
  ASSIGN_OR_RETURN(const TokenizerFiles files, ReadTokenizerFiles(folder));
  return Create(files);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(const TokenizerFiles& files) {
  ASSIGN_OR_RETURN(const TokenizerSpec spec, ParseTokenizerFiles(files));
  ASSIGN_OR_RETURN(std::unique_ptr<Splitter> splitter,
                   Splitter::Create(spec.pattern, spec.pattern_source));
  return std::unique_ptr<Tokenizer>(new Tokenizer(spec, std::move(splitter)));
}

Tokenizer::Tokenizer(const TokenizerSpec& spec, std::unique_ptr<Splitter> splitter)
    : splitter_(std::move(splitter)), nfc_(spec.nfc) {
  for (const auto& [content, id] : spec.tags) {
    specials_.emplace(content, id);
    special_ids_.insert(id);
    ends_.insert(tags_.Insert(content));
  }

  int32_t size = 0;
  for (const auto& [token, id] : spec.vocabulary) size = std::max(size, id + 1);
  for (const auto& [content, id] : spec.tags) size = std::max(size, id + 1);
  std::vector<std::string> tokens(size);
  // A token outside the byte alphabet stands for itself; no merge can lead to it.
  for (const auto& [token, id] : spec.vocabulary)
    tokens[id] = BytesOfSpelling(token).value_or(token);
  for (const auto& [content, id] : spec.tags) tokens[id] = content;  // as it stands in a text
  starts_.reserve(tokens.size() + 1);
  for (const std::string& token : tokens) {
    starts_.push_back(static_cast<uint32_t>(bytes_.size()));
    bytes_.append(token);
  }
  starts_.push_back(static_cast<uint32_t>(bytes_.size()));

  std::array<int32_t, 256> byte_tokens;
  for (int byte = 0; byte < 256; ++byte) byte_tokens[byte] = spec.vocabulary.at(SpellingOf(byte));
  // A merge that makes a special token would let a text write one.
  std::vector<Bpe::Merge> merges = spec.merges;
  merges.erase(std::remove_if(merges.begin(), merges.end(),
                              [this](const Bpe::Merge& merge) { return IsSpecial(merge.merged); }),
               merges.end());
  bpe_ = std::make_unique<Bpe>(byte_tokens, merges);
  if (spec.ignore_merges) {
    for (const auto& [token, id] : spec.vocabulary) {
      if (BytesOfSpelling(token).has_value() && !IsSpecial(id)) {
        whole_pieces_.emplace(BytesOf(id), id);
      }
    }
  }
}

absl::string_view Tokenizer::BytesOf(int32_t id) const {
  if (id < 0 || id >= size()) return {};
  return absl::string_view(bytes_).substr(starts_[id], starts_[id + 1] - starts_[id]);
}

std::optional<int32_t> Tokenizer::SpecialId(absl::string_view token) const {
  const auto special = specials_.find(token);
  if (special == specials_.end()) return std::nullopt;
  return special->second;
}

absl::string_view Tokenizer::TagAtFront(absl::string_view text) const {
  size_t length = 0;
  int32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    node = tags_.Child(node, static_cast<uint8_t>(text[i]));
    if (node == ByteTrie::kNone) break;
    if (ends_.contains(node)) length = i + 1;
  }
  return text.substr(0, length);
}

absl::Status Tokenizer::EncodeText(absl::string_view text, Room& room,
                                   std::vector<int32_t>& ids) const {
  if (text.empty()) return absl::OkStatus();
  return splitter_->Split(nfc_ ? ToNfc(text, room.normalised) : text, [&](absl::string_view piece) {
    const auto whole = whole_pieces_.find(piece);
    if (whole != whole_pieces_.end()) {
      ids.push_back(whole->second);
    } else {
      bpe_->Encode(piece, room.bpe, ids);
    }
  });
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(absl::string_view text, Tags tags) const {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a text of ", text.size(), " bytes, not at most ", kMaxTextBytes));
  }
  if (const std::optional<size_t> invalid = FindInvalidUtf8(text)) {
    return absl::InvalidArgumentError(absl::StrCat("the text is not UTF-8 at byte ", *invalid));
  }
  Room room;
  std::vector<int32_t> ids;
  size_t start = 0;  // of the text that no tag has ended yet
  if (tags == Tags::kTokens) {
    for (size_t at = 0; at < text.size();) {
      const absl::string_view tag = TagAtFront(text.substr(at));
      if (tag.empty()) {
        ++at;
        continue;
      }
      RETURN_IF_ERROR(EncodeText(text.substr(start, at - start), room, ids));
      ids.push_back(*SpecialId(tag));
      start = at += tag.size();
    }
  }
  RETURN_IF_ERROR(EncodeText(text.substr(start), room, ids));
  return ids;
}

std::string Tokenizer::Decode(absl::Span<const int32_t> ids) const {
  std::string bytes;
  for (const int32_t id : ids) absl::StrAppend(&bytes, BytesOf(id));
  std::string text = TakeWholeUtf8(bytes);
  if (!bytes.empty()) absl::StrAppend(&text, kReplacementCharacter);
  return text;
}

}  // namespace minicpmv
