#include "runtime/checkpoint/safetensors_header.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxAxes = 64;  // what the frameworks that write the format can hold

struct DTypeWidth {
  absl::string_view name;
  uint64_t bits;
};
constexpr DTypeWidth kWidths[] = {
    {"BF16", 16}, {"F16", 16}, {"F32", 32},    {"I32", 32},    {"U8", 8},
    {"BOOL", 8},  {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8},
    {"F4", 4},    {"I16", 16}, {"U16", 16},    {"F6_E2M3", 6}, {"F6_E3M2", 6},
    {"U32", 32},  {"F64", 64}, {"I64", 64},    {"U64", 64},    {"C64", 64},
};

// Follows the parser through the header and stops it at the first thing that the format does not
// have, so a hostile header costs no more than its own size.
class HeaderReader final : public nlohmann::json_sax<Json> {
 public:
  explicit HeaderReader(absl::string_view file) : file_(file) {}

  absl::StatusOr<std::vector<SafetensorsEntry>> Take() && {
    if (!status_.ok()) return status_;
    return std::move(entries_);
  }

  bool start_object(size_t) override {
    if (at_ == At::kOutside) return Go(At::kHeader);
    if (at_ != At::kHeader) return Unexpected("an object");
    if (entry_.name != "__metadata__") return Go(At::kEntry);
    if (std::exchange(has_metadata_, true)) return Refuse("\"__metadata__\" stands twice");
    return Go(At::kMetadata);
  }

  bool key(string_t& key) override {
    if (at_ == At::kHeader) {
      entry_ = {};
      entry_.name = std::move(key);
      offsets_.clear();
      has_dtype_ = has_shape_ = has_offsets_ = false;
    } else if (at_ == At::kEntry) {
      bool* const seen = key == "dtype"          ? &has_dtype_
                         : key == "shape"        ? &has_shape_
                         : key == "data_offsets" ? &has_offsets_
                                                 : nullptr;
      if (seen == nullptr) return RefuseEntry(absl::StrCat("has an unknown field ", Quoted(key)));
      if (std::exchange(*seen, true))
        return RefuseEntry(absl::StrCat("has the field ", Quoted(key), " twice"));
      field_ = std::move(key);
    }
    return true;
  }

  bool string(string_t& value) override {
    if (at_ == At::kMetadata) return true;
    if (at_ != At::kEntry || field_ != "dtype") return Unexpected(Quoted(value));
    entry_.dtype = std::move(value);
    return true;
  }

  bool start_array(size_t) override {
    if (at_ != At::kEntry || field_ == "dtype") return Unexpected("a list");
    return Go(field_ == "shape" ? At::kShape : At::kOffsets);
  }

  bool number_unsigned(uint64_t value) override {
    if (at_ == At::kShape) {
      if (value > uint64_t{INT64_MAX}) return RefuseEntry(absl::StrCat("has an axis of ", value));
      if (entry_.shape.size() == kMaxAxes)
        return RefuseEntry(absl::StrCat("has more than ", kMaxAxes, " axes"));
      entry_.shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (at_ != At::kOffsets) return Unexpected(absl::StrCat(value));
    if (offsets_.size() == 2) return RefuseEntry("has more than two data_offsets");
    offsets_.push_back(value);
    return true;
  }

  bool end_array() override { return Go(At::kEntry); }

  bool end_object() override {
    if (at_ == At::kMetadata) return Go(At::kHeader);
    if (at_ == At::kHeader) return Go(At::kOutside);
    if (!has_dtype_) return RefuseEntry("has no dtype");
    if (!has_shape_) return RefuseEntry("has no shape");
    if (offsets_.size() != 2) return RefuseEntry("has no two data_offsets");
    entry_.begin = offsets_[0];
    entry_.end = offsets_[1];
    entries_.push_back(std::move(entry_));
    return Go(At::kHeader);
  }

  bool null() override { return Unexpected("null"); }
  bool boolean(bool value) override { return Unexpected(value ? "true" : "false"); }
  bool number_integer(int64_t value) override {
    return Unexpected(absl::StrCat(value));
  }  // negative ones come here
  bool number_float(double, const string_t& text) override { return Unexpected(Quoted(text)); }
  bool binary(binary_t&) override { return Unexpected("bytes"); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    return Refuse(absl::StrCat("the header is not valid JSON: ", Quoted(error.what(), 200)));
  }

 private:
  enum class At { kOutside, kHeader, kMetadata, kEntry, kShape, kOffsets };

  bool Go(At at) {
    at_ = at;
    return true;
  }
  bool Refuse(absl::string_view words) {
    status_ = absl::DataLossError(absl::StrCat(file_, ": ", words));
    return false;
  }
  bool RefuseEntry(absl::string_view words) {
    return Refuse(absl::StrCat("tensor ", Quoted(entry_.name), " ", words));
  }
  bool Unexpected(absl::string_view what) {
    switch (at_) {
      case At::kOutside:
        return Refuse(absl::StrCat("the header is ", what, ", not an object"));
      case At::kHeader:
        return RefuseEntry(absl::StrCat("is ", what, ", not an object"));
      case At::kMetadata:
        return Refuse(absl::StrCat("\"__metadata__\" holds ", what, ", not only strings"));
      default:
        return RefuseEntry(absl::StrCat("has ", what, " for or in its ", field_));
    }
  }

  const absl::string_view file_;
  absl::Status status_;
  At at_ = At::kOutside;
  std::vector<SafetensorsEntry> entries_;
  bool has_metadata_ = false;
  SafetensorsEntry entry_;  // the one being read, and which of its fields have been seen
  std::string field_;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
  std::vector<uint64_t> offsets_;
};

// The bytes that dtype and shape ask for against those that the offsets span.
absl::Status CheckSize(const SafetensorsEntry& entry, absl::string_view file) {
  const auto refuse = [&](absl::string_view words) {
    return absl::DataLossError(absl::StrCat(file, ": tensor ", Quoted(entry.name), " ", words));
  };
  const auto* const width =
      std::find_if(std::begin(kWidths), std::end(kWidths),
                   [&](const DTypeWidth& w) { return w.name == entry.dtype; });
  if (width == std::end(kWidths)) {
    return absl::UnimplementedError(absl::StrCat(file, ": tensor ", Quoted(entry.name),
                                                 " has the unknown dtype ", Quoted(entry.dtype)));
  }
  uint64_t bits = width->bits;
  for (const int64_t size : entry.shape) {
    if (__builtin_mul_overflow(bits, static_cast<uint64_t>(size), &bits))
      return refuse("is larger than any file");
  }
  if (bits % 8 != 0) return refuse("ends inside a byte");
  if (entry.end < entry.begin)
    return refuse(absl::StrCat("ends at ", entry.end, ", before it begins at ", entry.begin));
  if (entry.end - entry.begin != bits / 8) {
    return refuse(absl::StrCat("needs ", bits / 8, " bytes, but its data_offsets span ",
                               entry.end - entry.begin));
  }
  return absl::OkStatus();
}

// Sorts by place and holds the tensors to tiling [0, data_bytes).
absl::Status CheckTiling(std::vector<SafetensorsEntry>& entries, uint64_t data_bytes,
                         absl::string_view file) {
  std::sort(entries.begin(), entries.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
            });
  uint64_t at = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != at) {
      return absl::DataLossError(
          absl::StrCat(file, ": tensor ", Quoted(entry.name), " begins at ", entry.begin,
                       entry.begin < at ? " and overlaps" : " and leaves a hole after",
                       " the one before it, which ends at ", at));
    }
    at = entry.end;
  }
  if (at != data_bytes) {
    return absl::DataLossError(
        absl::StrCat(file, at > data_bytes ? ": the file is cut" : ": the file is too long",
                     ": its tensors take ", at, " bytes, it holds ", data_bytes, " for them"));
  }
  return absl::OkStatus();
}

absl::Status CheckNames(const std::vector<SafetensorsEntry>& entries, absl::string_view file) {
  std::vector<absl::string_view> names;
  names.reserve(entries.size());
  for (const SafetensorsEntry& entry : entries) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  const auto twin = std::adjacent_find(names.begin(), names.end());
  if (twin == names.end()) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(file, ": tensor ", Quoted(*twin), " stands in the header twice"));
}

}  // namespace

absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensorsHeader(absl::Span<const uint8_t> file,
                                                                     absl::string_view name) {
  const absl::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  if (absl::StartsWith(text, "version https://git-lfs")) {
    return absl::FailedPreconditionError(absl::StrCat(
        name, ": a Git LFS pointer, not the file it stands for: fetch it with git lfs pull"));
  }
  if (file.size() < kLengthBytes) {
    return absl::DataLossError(
        absl::StrCat(name, ": the file is cut: ", file.size(), " bytes hold no header"));
  }
  uint64_t length = 0;
  for (int i = kLengthBytes - 1; i >= 0; --i) length = length << 8 | file[i];
  const uint64_t rest = file.size() - kLengthBytes;
  if (length > kMaxHeaderBytes) {
    return absl::DataLossError(absl::StrCat(name, ": no safetensors file: its header would have ",
                                            length, " bytes, at most ", kMaxHeaderBytes,
                                            " are allowed"));
  }
  if (length > rest) {
    return absl::DataLossError(absl::StrCat(name, ": the file is cut: its header has ", length,
                                            " bytes, it holds ", rest, " for it"));
  }
  const absl::string_view header = text.substr(kLengthBytes, length);
  // The parser takes a zero byte for the end of the text.
  if (!absl::StartsWith(header, "{") || absl::StrContains(header, '\0')) {
    return absl::DataLossError(absl::StrCat(name, ": the header is no JSON object"));
  }
  HeaderReader reader(name);
  Json::sax_parse(header.begin(), header.end(), &reader);
  ASSIGN_OR_RETURN(std::vector<SafetensorsEntry> entries, std::move(reader).Take());
  RETURN_IF_ERROR(CheckNames(entries, name));
  for (const SafetensorsEntry& entry : entries) RETURN_IF_ERROR(CheckSize(entry, name));
  RETURN_IF_ERROR(CheckTiling(entries, rest - length, name));
  for (SafetensorsEntry& entry : entries) {
    entry.begin += kLengthBytes + length;
    entry.end += kLengthBytes + length;
  }
  return entries;
}

}  // namespace minicpmv
