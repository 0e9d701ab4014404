#include "runtime/text/tokenizer_files.h"

#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/json_file.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"
#include "runtime/text/byte_alphabet.h"
#include "runtime/text/utf8.h"

namespace minicpmv {
namespace {

constexpr size_t kMaxFileBytes = size_t{32} << 20;
constexpr int64_t kMaxTokens = int64_t{1} << 20;
constexpr size_t kMaxTagBytes = 256;

constexpr absl::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::string PathOf(absl::string_view folder, absl::string_view file) {
  return folder.empty() ? std::string(file) : absl::StrCat(folder, "/", file);
}

absl::StatusOr<std::optional<std::string>> ReadIfThere(const std::string& folder,
                                                       absl::string_view file) {
  absl::StatusOr<std::string> text = ReadFile(PathOf(folder, file), kMaxFileBytes);
  if (absl::IsNotFound(text.status())) return std::optional<std::string>();
  if (!text.ok()) return text.status();
  return std::optional<std::string>(*std::move(text));
}

// Takes a token in, or says what is wrong with it.
class VocabularyBuilder {
 public:
  explicit VocabularyBuilder(TokenizerSpec& spec) : spec_(spec) {}

  absl::Status AddAll(const JsonObject& vocab) {
    const std::vector<absl::string_view> tokens = vocab.keys();
    spec_.vocabulary.reserve(tokens.size());
    for (const absl::string_view token : tokens) {
      ASSIGN_OR_RETURN(const int64_t id, vocab.Int(token, 0, kMaxTokens - 1));
      const auto [other, is_new] = by_id_.try_emplace(id, token);
      if (!is_new) {
        return vocab.Error(
            token, absl::StrCat("is ", id, ", which ", Quoted(other->second), " is already"));
      }
      spec_.vocabulary.emplace(token, id);
    }
    for (int byte = 0; byte < 256; ++byte) {
      if (!spec_.vocabulary.contains(SpellingOf(byte))) {
        return absl::InvalidArgumentError(absl::StrCat(vocab.file(), ": the vocabulary lacks ",
                                                       Quoted(SpellingOf(byte)),
                                                       ", which stands for byte ", byte));
      }
    }
    return absl::OkStatus();
  }

  // The same tag with the same id may be stated in several files.
  absl::Status AddTag(const JsonObject& stated_in, absl::string_view key, absl::string_view content,
                      int64_t id) {
    if (content.empty() || content.size() > kMaxTagBytes) {
      return stated_in.Error(key, absl::StrCat("is a tag of ", content.size(),
                                               " bytes, not in [1, ", kMaxTagBytes, "]"));
    }
    const auto [tag, is_new] = tags_.try_emplace(content, id);
    if (tag->second != id) {
      return stated_in.Error(key, absl::StrCat("is tag ", id, ", elsewhere ", tag->second));
    }
    if (!is_new) return absl::OkStatus();
    const auto token = spec_.vocabulary.find(content);
    if (token != spec_.vocabulary.end() && token->second != id) {
      return stated_in.Error(
          key, absl::StrCat("is tag ", id, ", but token ", token->second, " of the vocabulary"));
    }
    const auto [other, is_unused] = by_id_.try_emplace(id, content);
    if (!is_unused && other->second != content) {
      return stated_in.Error(
          key, absl::StrCat("is tag ", id, ", which ", Quoted(other->second), " is already"));
    }
    spec_.tags.emplace_back(content, id);
    return absl::OkStatus();
  }

  // `place` names the merge in errors.
  absl::Status AddMerge(absl::string_view place, absl::string_view left, absl::string_view right) {
    Bpe::Merge merge;
    RETURN_IF_ERROR(Find(place, left, merge.left));
    RETURN_IF_ERROR(Find(place, right, merge.right));
    RETURN_IF_ERROR(Find(place, absl::StrCat(left, right), merge.merged));
    spec_.merges.push_back(merge);
    return absl::OkStatus();
  }

 private:
  absl::Status Find(absl::string_view place, absl::string_view token, int32_t& id) const {
    const auto found = token.empty() ? spec_.vocabulary.end() : spec_.vocabulary.find(token);
    if (found == spec_.vocabulary.end()) {
      return absl::InvalidArgumentError(absl::StrCat(place, ": the merge needs ", Quoted(token),
                                                     ", which is not in the vocabulary"));
    }
    id = found->second;
    return absl::OkStatus();
  }

  TokenizerSpec& spec_;
  absl::flat_hash_map<int64_t, std::string> by_id_;
  absl::flat_hash_map<std::string, int64_t> tags_;
};

absl::Status AddMergesOfTokenizerJson(const JsonObject& model, VocabularyBuilder& builder) {
  // Written as ["a b", ...], and by newer versions as [["a", "b"], ...].
  ASSIGN_OR_RETURN(const auto merges, model.StringLists("merges"));
  if (merges.empty()) return model.Error("merges", "is empty");
  for (size_t i = 0; i < merges.size(); ++i) {
    std::vector<std::string> parts = merges[i];
    if (parts.size() == 1) parts = absl::StrSplit(merges[i][0], ' ');
    const std::string key = absl::StrCat("merges[", i, "]");
    if (parts.size() != 2)
      return model.Error(key, absl::StrCat("has ", parts.size(), " parts, not 2"));
    RETURN_IF_ERROR(builder.AddMerge(absl::StrCat(model.file(), ": ", key), parts[0], parts[1]));
  }
  return absl::OkStatus();
}

absl::Status AddMergesOfText(absl::string_view text, const std::string& file,
                             VocabularyBuilder& builder) {
  if (const std::optional<size_t> invalid = FindInvalidUtf8(text)) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": not UTF-8 at byte ", *invalid));
  }
  int line_number = 0;
  bool any = false;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    line = absl::StripTrailingAsciiWhitespace(line);
    if (line.empty() || (line_number == 1 && absl::StartsWith(line, "#version"))) continue;
    const std::vector<absl::string_view> parts = absl::StrSplit(line, ' ');
    const std::string place = absl::StrCat(file, ", line ", line_number);
    if (parts.size() != 2)
      return absl::InvalidArgumentError(absl::StrCat(place, ": ", parts.size(), " parts, not 2"));
    RETURN_IF_ERROR(builder.AddMerge(place, parts[0], parts[1]));
    any = true;
  }
  if (!any) return absl::InvalidArgumentError(absl::StrCat(file, ": no merges"));
  return absl::OkStatus();
}

absl::Status RefuseTrue(const JsonObject& object, absl::string_view key) {
  ASSIGN_OR_RETURN(const std::optional<bool> value, object.OptionalBool(key));
  if (!value.value_or(false)) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat(object.Error(key, "is true, which is not supported").message()));
}

absl::Status CheckTagFlags(const JsonObject& tag) {
  for (const absl::string_view flag : {"lstrip", "rstrip", "single_word"})
    RETURN_IF_ERROR(RefuseTrue(tag, flag));
  return absl::OkStatus();
}

absl::Status CheckType(const JsonObject& object, absl::string_view type) {
  ASSIGN_OR_RETURN(const std::string stated, object.String("type"));
  if (stated == type) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat(object
                       .Error("type", absl::StrCat("is ", Quoted(stated), "; only ", Quoted(type),
                                                   " is supported"))
                       .message()));
}

absl::Status ReadModel(const JsonObject& model, VocabularyBuilder& builder, TokenizerSpec& spec) {
  RETURN_IF_ERROR(CheckType(model, "BPE"));
  RETURN_IF_ERROR(RefuseTrue(model, "byte_fallback"));
  for (const absl::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    ASSIGN_OR_RETURN(const std::optional<std::string> affix, model.OptionalString(key));
    if (!affix.value_or("").empty()) {
      return absl::UnimplementedError(absl::StrCat(model.Error(key, "is not supported").message()));
    }
  }
  ASSIGN_OR_RETURN(const std::optional<bool> ignore_merges, model.OptionalBool("ignore_merges"));
  spec.ignore_merges = ignore_merges.value_or(false);
  ASSIGN_OR_RETURN(const JsonObject vocab, model.Object("vocab"));
  RETURN_IF_ERROR(builder.AddAll(vocab));
  return AddMergesOfTokenizerJson(model, builder);
}

// A Sequence of Split by a regular expression and ByteLevel.
absl::Status ReadPreTokenizer(const JsonObject& pre_tokenizer, TokenizerSpec& spec) {
  RETURN_IF_ERROR(CheckType(pre_tokenizer, "Sequence"));
  ASSIGN_OR_RETURN(const std::vector<JsonObject> steps, pre_tokenizer.ObjectList("pretokenizers"));
  if (steps.size() != 2) {
    return absl::UnimplementedError(absl::StrCat(
        pre_tokenizer.Error("pretokenizers", "has other steps than one Split and one ByteLevel")
            .message()));
  }
  const JsonObject& split = steps[0];
  RETURN_IF_ERROR(CheckType(split, "Split"));
  RETURN_IF_ERROR(RefuseTrue(split, "invert"));
  ASSIGN_OR_RETURN(const std::string behavior, split.String("behavior"));
  if (behavior != "Isolated") {
    return absl::UnimplementedError(
        absl::StrCat(split.Error("behavior", "is not \"Isolated\"").message()));
  }
  ASSIGN_OR_RETURN(const JsonObject pattern, split.Object("pattern"));
  ASSIGN_OR_RETURN(spec.pattern, pattern.String("Regex"));
  const JsonObject& byte_level = steps[1];
  RETURN_IF_ERROR(CheckType(byte_level, "ByteLevel"));
  RETURN_IF_ERROR(RefuseTrue(byte_level, "add_prefix_space"));
  return RefuseTrue(byte_level, "use_regex");
}

absl::Status ReadTokenizerJson(const JsonObject& file, VocabularyBuilder& builder,
                               TokenizerSpec& spec) {
  ASSIGN_OR_RETURN(const JsonObject model, file.Object("model"));
  RETURN_IF_ERROR(ReadModel(model, builder, spec));
  ASSIGN_OR_RETURN(const JsonObject pre_tokenizer, file.Object("pre_tokenizer"));
  RETURN_IF_ERROR(ReadPreTokenizer(pre_tokenizer, spec));
  spec.pattern_source = file.file();
  ASSIGN_OR_RETURN(const std::optional<JsonObject> normalizer, file.OptionalObject("normalizer"));
  spec.nfc = normalizer.has_value();
  if (spec.nfc) RETURN_IF_ERROR(CheckType(*normalizer, "NFC"));
  ASSIGN_OR_RETURN(const auto tags, file.OptionalObjectList("added_tokens"));
  if (!tags.has_value()) return absl::OkStatus();
  for (const JsonObject& tag : *tags) {
    ASSIGN_OR_RETURN(const int64_t id, tag.Int("id", 0, kMaxTokens - 1));
    ASSIGN_OR_RETURN(const std::string content, tag.String("content"));
    RETURN_IF_ERROR(CheckTagFlags(tag));
    RETURN_IF_ERROR(builder.AddTag(tag, "content", content, id));
  }
  return absl::OkStatus();
}

absl::Status ReadAddedTokens(const JsonObject& file, VocabularyBuilder& builder) {
  for (const absl::string_view content : file.keys()) {
    ASSIGN_OR_RETURN(const int64_t id, file.Int(content, 0, kMaxTokens - 1));
    RETURN_IF_ERROR(builder.AddTag(file, content, content, id));
  }
  return absl::OkStatus();
}

absl::Status ReadTokenizerConfig(const JsonObject& file, VocabularyBuilder& builder) {
  RETURN_IF_ERROR(RefuseTrue(file, "add_prefix_space"));
  ASSIGN_OR_RETURN(const std::optional<JsonObject> tags,
                   file.OptionalObject("added_tokens_decoder"));
  if (!tags.has_value()) return absl::OkStatus();
  for (const absl::string_view key : tags->keys()) {
    int64_t id = -1;
    if (!absl::SimpleAtoi(key, &id) || id < 0 || id >= kMaxTokens) {
      return tags->Error(key, absl::StrCat("is no id in [0, ", kMaxTokens - 1, "]"));
    }
    ASSIGN_OR_RETURN(const JsonObject tag, tags->Object(key));
    ASSIGN_OR_RETURN(const std::string content, tag.String("content"));
    RETURN_IF_ERROR(CheckTagFlags(tag));
    RETURN_IF_ERROR(builder.AddTag(tag, "content", content, id));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerFiles> ReadTokenizerFiles(const std::string& folder) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(folder, error);
  if (!std::filesystem::exists(status))
    return absl::NotFoundError(absl::StrCat(folder, ": no such folder"));
  if (!std::filesystem::is_directory(status))
    return absl::InvalidArgumentError(absl::StrCat(folder, ": not a folder"));
  TokenizerFiles files;
  files.folder = folder;
  ASSIGN_OR_RETURN(files.tokenizer_json, ReadIfThere(folder, "tokenizer.json"));
  if (!files.tokenizer_json.has_value()) {
    ASSIGN_OR_RETURN(files.vocab_json, ReadIfThere(folder, "vocab.json"));
    ASSIGN_OR_RETURN(files.merges_txt, ReadIfThere(folder, "merges.txt"));
  }
  ASSIGN_OR_RETURN(files.added_tokens_json, ReadIfThere(folder, "added_tokens.json"));
  ASSIGN_OR_RETURN(files.tokenizer_config_json, ReadIfThere(folder, "tokenizer_config.json"));
  return files;
}

absl::StatusOr<TokenizerSpec> ParseTokenizerFiles(const TokenizerFiles& files) {
  TokenizerSpec spec;
  VocabularyBuilder builder(spec);
  const auto parse = [&files](absl::string_view text, absl::string_view name) {
    return JsonObject::Parse(text, PathOf(files.folder, name));
  };
  if (files.tokenizer_json.has_value()) {
    ASSIGN_OR_RETURN(const JsonObject file, parse(*files.tokenizer_json, "tokenizer.json"));
    RETURN_IF_ERROR(ReadTokenizerJson(file, builder, spec));
  } else if (files.vocab_json.has_value()) {
    if (!files.merges_txt.has_value()) {
      return absl::NotFoundError(
          absl::StrCat(PathOf(files.folder, "merges.txt"), ": not there, but vocab.json is"));
    }
    ASSIGN_OR_RETURN(const JsonObject vocab, parse(*files.vocab_json, "vocab.json"));
    RETURN_IF_ERROR(builder.AddAll(vocab));
    RETURN_IF_ERROR(
        AddMergesOfText(*files.merges_txt, PathOf(files.folder, "merges.txt"), builder));
    spec.pattern = std::string(kQwen2Pattern);
    spec.pattern_source = "the Qwen2 pattern";
  } else {
    return absl::NotFoundError(
        absl::StrCat(files.folder, ": no tokenizer.json, and no vocab.json with merges.txt"));
  }
  if (files.added_tokens_json.has_value()) {
    ASSIGN_OR_RETURN(const JsonObject file, parse(*files.added_tokens_json, "added_tokens.json"));
    RETURN_IF_ERROR(ReadAddedTokens(file, builder));
  }
  if (files.tokenizer_config_json.has_value()) {
    ASSIGN_OR_RETURN(const JsonObject file,
                     parse(*files.tokenizer_config_json, "tokenizer_config.json"));
    RETURN_IF_ERROR(ReadTokenizerConfig(file, builder));
  }
  return spec;
}

}  // namespace minicpmv
