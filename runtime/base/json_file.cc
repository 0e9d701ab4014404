#include "runtime/base/json_file.h"

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {
namespace {

using Json = nlohmann::json;

constexpr char kFieldPayload[] = "minicpmv/json-field";

// Exact for valid JSON, which is all that it must be: invalid text is refused by the parser anyway.
bool IsDeeperThan(absl::string_view text, int limit) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > limit) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

// Readers turn one value into a T; `path` is the field's whole name. They are handed down by the
// getters below.
absl::Status Wrong(const std::string& file, const std::string& path, absl::string_view words,
                   absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
  absl::Status wrong(code, absl::StrCat(file, ": ", Quoted(path), " ", words));
  wrong.SetPayload(kFieldPayload, absl::Cord(path));
  return wrong;
}

// A value in an error: short, and never a whole list or object.
std::string Shown(const Json& value) {
  if (value.is_string()) return Quoted(value.get_ref<const std::string&>());
  if (value.is_primitive()) return value.dump();
  return absl::StrCat("an ", value.type_name());
}

struct Place {
  const std::string& file;
  std::string path;

  absl::Status Not(const Json& value, absl::string_view kind) const {
    return Wrong(file, path, absl::StrCat("is ", Shown(value), ", not ", kind));
  }
};

auto IntReader(int64_t min, int64_t max) {
  return [min, max](const Json& value, const Place& place) -> absl::StatusOr<int64_t> {
    if (!value.is_number_integer()) return place.Not(value, "a whole number");
    const bool too_large =
        value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX};
    const int64_t number = value.get<int64_t>();
    if (too_large || number < min || number > max)
      return place.Not(value, absl::StrCat("in [", min, ", ", max, "]"));
    return number;
  };
}

absl::StatusOr<uint64_t> ReadBits(const Json& value, const Place& place) {
  if (!value.is_number_integer()) return place.Not(value, "a whole number of 64 bits");
  return value.get<uint64_t>();  // of a negative one its two's complement
}

absl::StatusOr<double> ReadNumber(const Json& value, const Place& place) {
  if (!value.is_number()) return place.Not(value, "a number");
  return value.get<double>();  // finite: the parser refuses what a double cannot hold
}

absl::StatusOr<bool> ReadBool(const Json& value, const Place& place) {
  if (!value.is_boolean()) return place.Not(value, "true or false");
  return value.get<bool>();
}

absl::StatusOr<std::string> ReadString(const Json& value, const Place& place) {
  if (!value.is_string()) return place.Not(value, "a string");
  return value.get<std::string>();
}

}  // namespace

absl::StatusOr<JsonObject> JsonObject::Read(const std::string& path, size_t limit) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, limit));
  return Parse(text, path);
}

absl::StatusOr<JsonObject> JsonObject::Parse(absl::string_view text, absl::string_view name) {
  if (IsDeeperThan(text, kMaxDepth)) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": nested deeper than ", kMaxDepth));
  }
  if (absl::StrContains(text, '\0')) {  // which the parser would take for the end of the text
    return absl::InvalidArgumentError(absl::StrCat(name, ": not valid JSON: holds a zero byte"));
  }
  auto value = std::make_shared<Json>();
  try {
    *value = Json::parse(text.begin(), text.end());
  } catch (const Json::exception&
               error) {  // a syntax error, invalid UTF-8, a number too large; says where
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": not valid JSON: ", Quoted(error.what(), 200)));
  }
  if (!value->is_object())
    return absl::InvalidArgumentError(absl::StrCat(name, ": not a JSON object"));
  return JsonObject(std::move(value), std::string(name), "");
}

std::vector<absl::string_view> JsonObject::keys() const {
  std::vector<absl::string_view> keys;
  keys.reserve(value_->size());
  for (const auto& item : value_->get_ref<const Json::object_t&>()) keys.push_back(item.first);
  return keys;
}

const Json* JsonObject::Find(absl::string_view key) const {
  const auto& members = value_->get_ref<const Json::object_t&>();
  const auto it = members.find(std::string(key));
  return it == members.end() || it->second.is_null() ? nullptr : &it->second;
}

template <typename Reader>
auto JsonObject::Optional(absl::string_view key, const Reader& read) const {
  using T = typename decltype(read(*value_, Place{file_, ""}))::value_type;
  using Result = absl::StatusOr<std::optional<T>>;
  const Json* value = Find(key);
  if (value == nullptr) return Result(std::optional<T>());
  absl::StatusOr<T> result = read(*value, Place{file_, absl::StrCat(prefix_, key)});
  if (!result.ok()) return Result(result.status());
  return Result(std::optional<T>(*std::move(result)));
}

template <typename Reader>
auto JsonObject::Required(absl::string_view key, const Reader& read) const {
  using Result = decltype(read(*value_, Place{file_, ""}));
  const Json* value = Find(key);
  if (value == nullptr) return Result(Error(key, "is missing"));
  return Result(read(*value, Place{file_, absl::StrCat(prefix_, key)}));
}

template <typename Reader>
auto JsonObject::ListOf(const Reader& read) const {
  return [read](const Json& value, const Place& place) {
    using T = typename decltype(read(value, place))::value_type;
    using Result = absl::StatusOr<std::vector<T>>;
    std::vector<T> list;
    const auto append = [&](const Json& item, std::string path) {
      absl::StatusOr<T> result = read(item, Place{place.file, std::move(path)});
      if (result.ok()) list.push_back(*std::move(result));
      return result.status();
    };
    if (!value.is_array()) {
      const absl::Status status = append(value, place.path);
      return status.ok() ? Result(std::move(list)) : Result(status);
    }
    list.reserve(value.size());
    for (size_t i = 0; i < value.size(); ++i) {
      const absl::Status status = append(value[i], absl::StrCat(place.path, "[", i, "]"));
      if (!status.ok()) return Result(status);
    }
    return Result(std::move(list));
  };
}

auto JsonObject::ObjectReader() const {
  return [this](const Json& value, const Place& place) -> absl::StatusOr<JsonObject> {
    if (!value.is_object()) return place.Not(value, "an object");
    return JsonObject(std::shared_ptr<const Json>(value_, &value), file_,
                      absl::StrCat(place.path, "."));
  };
}

absl::Status JsonObject::Error(absl::string_view key, absl::string_view words,
                               absl::StatusCode code) const {
  return Wrong(file_, PathOf(key), words, code);
}

std::string JsonObject::PathOf(absl::string_view key) const { return absl::StrCat(prefix_, key); }

std::string JsonObject::FieldOf(const absl::Status& error) {
  const absl::optional<absl::Cord> payload = error.GetPayload(kFieldPayload);
  return payload.has_value() ? std::string(*payload) : "";
}

absl::StatusOr<int64_t> JsonObject::Int(absl::string_view key, int64_t min, int64_t max) const {
  return Required(key, IntReader(min, max));
}
absl::StatusOr<std::optional<int64_t>> JsonObject::OptionalInt(absl::string_view key, int64_t min,
                                                               int64_t max) const {
  return Optional(key, IntReader(min, max));
}
absl::StatusOr<std::optional<uint64_t>> JsonObject::OptionalBits(absl::string_view key) const {
  return Optional(key, ReadBits);
}
absl::StatusOr<double> JsonObject::Number(absl::string_view key) const {
  return Required(key, ReadNumber);
}
absl::StatusOr<std::optional<double>> JsonObject::OptionalNumber(absl::string_view key) const {
  return Optional(key, ReadNumber);
}
absl::StatusOr<bool> JsonObject::Bool(absl::string_view key) const {
  return Required(key, ReadBool);
}
absl::StatusOr<std::optional<bool>> JsonObject::OptionalBool(absl::string_view key) const {
  return Optional(key, ReadBool);
}
absl::StatusOr<std::string> JsonObject::String(absl::string_view key) const {
  return Required(key, ReadString);
}
absl::StatusOr<std::optional<std::string>> JsonObject::OptionalString(absl::string_view key) const {
  return Optional(key, ReadString);
}
absl::StatusOr<JsonObject> JsonObject::Object(absl::string_view key) const {
  return Required(key, ObjectReader());
}
absl::StatusOr<std::optional<JsonObject>> JsonObject::OptionalObject(absl::string_view key) const {
  return Optional(key, ObjectReader());
}
absl::StatusOr<std::vector<int64_t>> JsonObject::IntList(absl::string_view key, int64_t min,
                                                         int64_t max) const {
  return Required(key, ListOf(IntReader(min, max)));
}
absl::StatusOr<std::optional<std::vector<int64_t>>> JsonObject::OptionalIntList(
    absl::string_view key, int64_t min, int64_t max) const {
  return Optional(key, ListOf(IntReader(min, max)));
}
absl::StatusOr<std::vector<double>> JsonObject::NumberList(absl::string_view key) const {
  return Required(key, ListOf(ReadNumber));
}
absl::StatusOr<std::optional<std::vector<double>>> JsonObject::OptionalNumberList(
    absl::string_view key) const {
  return Optional(key, ListOf(ReadNumber));
}
absl::StatusOr<std::vector<std::string>> JsonObject::StringList(absl::string_view key) const {
  return Required(key, ListOf(ReadString));
}
absl::StatusOr<std::optional<std::vector<std::string>>> JsonObject::OptionalStringList(
    absl::string_view key) const {
  return Optional(key, ListOf(ReadString));
}
absl::StatusOr<std::vector<std::vector<std::string>>> JsonObject::StringLists(
    absl::string_view key) const {
  return Required(key, ListOf(ListOf(ReadString)));
}
absl::StatusOr<std::vector<JsonObject>> JsonObject::ObjectList(absl::string_view key) const {
  return Required(key, ListOf(ObjectReader()));
}
absl::StatusOr<std::optional<std::vector<JsonObject>>> JsonObject::OptionalObjectList(
    absl::string_view key) const {
  return Optional(key, ListOf(ObjectReader()));
}

}  // namespace minicpmv
