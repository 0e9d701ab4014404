#include "services/gateway/form_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "runtime/base/status_macros.h"

namespace minicpmv::gateway {
namespace {

constexpr size_t kMaxBoundaryBytes = 70;
constexpr absl::string_view kLineEnd = "\r\n";

absl::Status NoForm(absl::string_view words) {
  return absl::InvalidArgumentError(absl::StrCat("the body is no multipart/form-data: ", words));
}

// A header's value: "form-data; name=\"file\"; filename=\"a.png\"".
struct Parameters {
  std::string value;
  std::vector<std::pair<std::string, std::string>> named;  // names in lower case

  const std::string* Find(absl::string_view name) const {
    for (const auto& [own, value] : named) {
      if (own == name) return &value;
    }
    return nullptr;
  }
};

// Nothing: that is no such list.
std::optional<Parameters> ParseParameters(absl::string_view text) {
  Parameters parsed;
  const size_t first = std::min(text.find(';'), text.size());
  parsed.value = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text.substr(0, first)));
  text.remove_prefix(first);
  while (true) {
    text = absl::StripLeadingAsciiWhitespace(text);
    if (text.empty()) return parsed;
    if (!absl::ConsumePrefix(&text, ";")) return std::nullopt;
    text = absl::StripLeadingAsciiWhitespace(text);
    if (text.empty()) return parsed;
    const size_t equals = text.find('=');
    if (equals == text.npos) return std::nullopt;
    std::string name = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text.substr(0, equals)));
    text.remove_prefix(equals + 1);
    std::string value;
    if (absl::ConsumePrefix(&text, "\"")) {
      size_t at = 0;
      for (; at < text.size() && text[at] != '"'; ++at) {
        if (text[at] == '\\' && at + 1 < text.size()) ++at;
        value += text[at];
      }
      if (at == text.size()) return std::nullopt;
      text.remove_prefix(at + 1);
    } else {
      const size_t end = std::min(text.find(';'), text.size());
      value = std::string(absl::StripAsciiWhitespace(text.substr(0, end)));
      text.remove_prefix(end);
    }
    if (parsed.Find(name) != nullptr) return std::nullopt;
    parsed.named.emplace_back(std::move(name), std::move(value));
  }
}

}  // namespace

std::optional<std::string> FormBoundaryOf(absl::string_view content_type) {
  const std::optional<Parameters> parsed = ParseParameters(content_type);
  if (!parsed || parsed->value != "multipart/form-data") return std::nullopt;
  const std::string* const boundary = parsed->Find("boundary");
  if (boundary == nullptr || boundary->empty() || boundary->size() > kMaxBoundaryBytes ||
      boundary->back() == ' ') {
    return std::nullopt;
  }
  const bool is_allowed = std::all_of(boundary->begin(), boundary->end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           absl::string_view("'()+_,-./:=? ").find(c) != absl::string_view::npos;
  });
  return is_allowed ? std::optional<std::string>(*boundary) : std::nullopt;
}

// The first delimiter may begin the body, without a line before it.
FormReader::FormReader(absl::string_view boundary)
    : delimiter_(absl::StrCat(kLineEnd, "--", boundary)),
      pending_(kLineEnd),
      offset_(-static_cast<int64_t>(kLineEnd.size())) {}

absl::Status FormReader::Read(absl::string_view piece) {
  pending_.append(piece.data(), piece.size());
  while (true) {
    ASSIGN_OR_RETURN(const bool goes_on, Step());
    if (!goes_on) return absl::OkStatus();
  }
}

absl::StatusOr<std::vector<FormField>> FormReader::Finish() && {
  if (state_ != State::kEnd) return NoForm("it has no end");
  return std::move(fields_);
}

void FormReader::Drop(size_t bytes) {
  pending_.erase(0, bytes);
  offset_ += static_cast<int64_t>(bytes);
}

absl::StatusOr<bool> FormReader::Step() {
  switch (state_) {
    case State::kPreamble:
    case State::kField:
      return FindDelimiter();
    case State::kAfterDelimiter:
      if (pending_.size() < kLineEnd.size()) return false;
      if (absl::StartsWith(pending_, "--")) {
        state_ = State::kEnd;
      } else if (absl::StartsWith(pending_, kLineEnd)) {
        // The line end stays: it ends the header's last line, where there is one.
        state_ = State::kHeader;
      } else {
        return NoForm("something follows a boundary");
      }
      return true;
    case State::kHeader:
      return ReadHeader();
    case State::kEnd:
      Drop(pending_.size());
      return false;
  }
  return false;
}

absl::StatusOr<bool> FormReader::FindDelimiter() {
  const size_t found = pending_.find(delimiter_);
  if (found == std::string::npos) {
    // Its beginning may have come.
    if (pending_.size() >= delimiter_.size()) Drop(pending_.size() - (delimiter_.size() - 1));
    return false;
  }
  if (state_ == State::kField) {
    FormField& field = fields_.back();
    field.size = offset_ + static_cast<int64_t>(found) - field.offset;
  }
  Drop(found + delimiter_.size());
  state_ = State::kAfterDelimiter;
  return true;
}

absl::StatusOr<bool> FormReader::ReadHeader() {
  const size_t end = pending_.find("\r\n\r\n");
  if (end == std::string::npos) {
    if (pending_.size() >= kMaxHeaderBytes + 4) return NoForm("the header of a field is too long");
    return false;
  }
  if (end > kMaxHeaderBytes) return NoForm("the header of a field is too long");
  if (fields_.size() == kMaxFields) return NoForm("it has too many fields");
  std::optional<Parameters> disposition;
  for (absl::string_view line : absl::StrSplit(pending_.substr(0, end), kLineEnd)) {
    const size_t colon = line.find(':');
    if (colon == line.npos ||
        !absl::EqualsIgnoreCase(line.substr(0, colon), "content-disposition")) {
      continue;
    }
    if (disposition) return NoForm("a field has two dispositions");
    disposition = ParseParameters(line.substr(colon + 1));
    if (!disposition) break;
  }
  if (!disposition || disposition->value != "form-data" || disposition->Find("name") == nullptr) {
    return NoForm("a field has no name");
  }
  FormField& field = fields_.emplace_back();
  field.name = *disposition->Find("name");
  if (const std::string* const filename = disposition->Find("filename")) field.filename = *filename;
  Drop(end + 4);
  field.offset = offset_;
  state_ = State::kField;
  return true;
}

}  // namespace minicpmv::gateway
