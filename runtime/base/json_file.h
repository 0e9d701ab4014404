#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace minicpmv {

// A JSON object from outside: a config file or a part of one. Immutable and cheap to copy; a part
// keeps the parsed whole alive. Thread-safe.
//
// As in Python's json, the last of several equal keys wins. Unlike there, NaN, Infinity and numbers
// beyond a double (1e400) are refused, and so is nesting deeper than kMaxDepth. Every error is
// INVALID_ARGUMENT unless said otherwise and names the file and the field by its whole path:
// config.json: "vision_config.hidden_size" is -1, not in [1, 65536].
//
// Each getter has a twin with Optional in its name, which gives nothing where the key is absent or
// null; a value of the wrong kind is an error for both.
class JsonObject {
 public:
  static constexpr int kMaxDepth = 64;

  // Errors of ReadFile (NOT_FOUND; OUT_OF_RANGE over `limit` bytes) beside those of Parse.
  static absl::StatusOr<JsonObject> Read(const std::string& path, size_t limit);
  // `name` stands for the file in errors.
  static absl::StatusOr<JsonObject> Parse(absl::string_view text, absl::string_view name);

  // Present and not null.
  bool Has(absl::string_view key) const { return Find(key) != nullptr; }
  // Sorted, null ones too. The views live as long as this object or any copy or part of it.
  std::vector<absl::string_view> keys() const;

  // A whole number written as one (64, not 64.0) in [min, max].
  absl::StatusOr<int64_t> Int(absl::string_view key, int64_t min, int64_t max) const;
  absl::StatusOr<std::optional<int64_t>> OptionalInt(absl::string_view key, int64_t min,
                                                     int64_t max) const;
  // A whole number of 64 bits, with or without a sign: its bits.
  absl::StatusOr<std::optional<uint64_t>> OptionalBits(absl::string_view key) const;
  // Any number; always finite.
  absl::StatusOr<double> Number(absl::string_view key) const;
  absl::StatusOr<std::optional<double>> OptionalNumber(absl::string_view key) const;
  absl::StatusOr<bool> Bool(absl::string_view key) const;
  absl::StatusOr<std::optional<bool>> OptionalBool(absl::string_view key) const;
  // Valid UTF-8.
  absl::StatusOr<std::string> String(absl::string_view key) const;
  absl::StatusOr<std::optional<std::string>> OptionalString(absl::string_view key) const;
  absl::StatusOr<JsonObject> Object(absl::string_view key) const;
  absl::StatusOr<std::optional<JsonObject>> OptionalObject(absl::string_view key) const;

  // Lists. A lone value is a list of one: "eos_token_id": 2 is as common as "eos_token_id": [2,
  // 73440].
  absl::StatusOr<std::vector<int64_t>> IntList(absl::string_view key, int64_t min,
                                               int64_t max) const;
  absl::StatusOr<std::optional<std::vector<int64_t>>> OptionalIntList(absl::string_view key,
                                                                      int64_t min,
                                                                      int64_t max) const;
  absl::StatusOr<std::vector<double>> NumberList(absl::string_view key) const;
  absl::StatusOr<std::optional<std::vector<double>>> OptionalNumberList(
      absl::string_view key) const;
  absl::StatusOr<std::vector<std::string>> StringList(absl::string_view key) const;
  absl::StatusOr<std::optional<std::vector<std::string>>> OptionalStringList(
      absl::string_view key) const;
  // A lone value among the lists is a list of one, too.
  absl::StatusOr<std::vector<std::vector<std::string>>> StringLists(absl::string_view key) const;
  absl::StatusOr<std::vector<JsonObject>> ObjectList(absl::string_view key) const;
  absl::StatusOr<std::optional<std::vector<JsonObject>>> OptionalObjectList(
      absl::string_view key) const;

  // An error of this file about one of its fields, for checks that only the caller can make:
  // config.Error("hidden_size", "is no multiple of num_attention_heads").
  absl::Status Error(absl::string_view key, absl::string_view words,
                     absl::StatusCode code = absl::StatusCode::kInvalidArgument) const;
  // The whole path of the field that an error of these is about; "" where it is about none.
  static std::string FieldOf(const absl::Status& error);
  // "vision_config.hidden_size": as errors name the field.
  std::string PathOf(absl::string_view key) const;
  // The file, as it stands in errors.
  const std::string& file() const { return file_; }

 private:
  JsonObject(std::shared_ptr<const nlohmann::json> value, std::string file, std::string prefix)
      : value_(std::move(value)), file_(std::move(file)), prefix_(std::move(prefix)) {}

  const nlohmann::json* Find(absl::string_view key) const;  // null when absent or null
  template <typename Reader>
  auto Optional(absl::string_view key, const Reader& read) const;
  template <typename Reader>
  auto Required(absl::string_view key, const Reader& read) const;
  template <typename Reader>
  auto ListOf(const Reader& read) const;
  auto ObjectReader() const;

  std::shared_ptr<const nlohmann::json>
      value_;  // an object; shares its life with the whole document
  std::string file_;
  std::string prefix_;  // "vision_config." inside that part
};

}  // namespace minicpmv
