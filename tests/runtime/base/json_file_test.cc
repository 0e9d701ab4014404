#include "runtime/base/json_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tests/runtime/base/temp_folder.h"

namespace minicpmv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

JsonObject Parsed(absl::string_view text) {
  auto object = JsonObject::Parse(text, "config.json");
  EXPECT_TRUE(object.ok()) << object.status();
  return *object;
}

// Of an INVALID_ARGUMENT.
std::string WordsOf(const absl::Status& status) {
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  return std::string(status.message());
}

std::string RefusalOf(absl::string_view text) {
  const absl::Status status = JsonObject::Parse(text, "config.json").status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("config.json: "));
  EXPECT_EQ(status.message().find('\n'), absl::string_view::npos);
  EXPECT_LT(status.message().size(), 400u);
  return std::string(status.message());
}

TEST(JsonObjectTest, ReadsEveryKindOfField) {
  const JsonObject object =
      Parsed(R"({"layers": 28, "eps": 1e-06, "theta": 1000000, "tied": false, "type": "qwen2",
      "vision": {"size": 980}, "eos": [2, 3], "mean": [0.5, 1], "architectures": ["A", "B"],
      "added": [{"id": 1}, {"id": 2}]})");
  EXPECT_EQ(*object.Int("layers", 1, 100), 28);
  EXPECT_EQ(*object.Number("eps"), 1e-6);
  EXPECT_EQ(*object.Number("theta"), 1e6);
  EXPECT_EQ(*object.Bool("tied"), false);
  EXPECT_EQ(*object.String("type"), "qwen2");
  EXPECT_EQ(*object.Object("vision")->Int("size", 0, 1000), 980);
  EXPECT_THAT(*object.IntList("eos", 0, 9), ElementsAre(2, 3));
  EXPECT_THAT(*object.NumberList("mean"), ElementsAre(0.5, 1.0));
  EXPECT_THAT(*object.StringList("architectures"), ElementsAre("A", "B"));
  EXPECT_EQ(*object.ObjectList("added")->at(1).Int("id", 0, 9), 2);
}

TEST(JsonObjectTest, TakesALoneValueForAListOfOne) {
  EXPECT_THAT(*Parsed(R"({"eos": 2})").IntList("eos", 0, 9), ElementsAre(2));
  EXPECT_THAT(*Parsed(R"({"stop": "x"})").StringList("stop"), ElementsAre("x"));
}

TEST(JsonObjectTest, GivesNothingForAbsentAndNullOnesThatAreOptional) {
  const JsonObject object = Parsed(R"({"a": null, "b": 1})");
  EXPECT_EQ(*object.OptionalInt("a", 0, 9), std::nullopt);
  EXPECT_EQ(*object.OptionalInt("z", 0, 9), std::nullopt);
  EXPECT_EQ(*object.OptionalInt("b", 0, 9), 1);
  EXPECT_FALSE(object.OptionalNumber("z")->has_value());
  EXPECT_FALSE(object.OptionalBool("z")->has_value());
  EXPECT_FALSE(object.OptionalString("z")->has_value());
  EXPECT_FALSE(object.OptionalObject("z")->has_value());
  EXPECT_FALSE(object.OptionalIntList("z", 0, 9)->has_value());
  EXPECT_FALSE(object.OptionalNumberList("z")->has_value());
  EXPECT_FALSE(object.OptionalStringList("z")->has_value());
  EXPECT_FALSE(object.OptionalObjectList("z")->has_value());
  EXPECT_FALSE(object.Has("a"));
  EXPECT_TRUE(object.Has("b"));
}

TEST(JsonObjectTest, NamesTheFileAndTheWholePathInErrors) {
  const JsonObject object = Parsed(R"({"vision": {"size": -1, "list": [{"id": "x"}]}})");
  const JsonObject vision = *object.Object("vision");
  EXPECT_EQ(WordsOf(vision.Int("size", 1, 65536).status()),
            "config.json: \"vision.size\" is -1, not in [1, 65536]");
  EXPECT_EQ(WordsOf(vision.Int("depth", 1, 9).status()),
            "config.json: \"vision.depth\" is missing");
  EXPECT_EQ(WordsOf(vision.ObjectList("list")->at(0).Int("id", 0, 9).status()),
            "config.json: \"vision.list[0].id\" is \"x\", not a whole number");
  EXPECT_EQ(WordsOf(vision.Error("size", "is odd")), "config.json: \"vision.size\" is odd");
}

TEST(JsonObjectTest, RefusesAFieldOfTheWrongKindEvenWhenOptional) {
  const JsonObject object =
      Parsed(R"({"f": 1.5, "whole": 2.0, "s": "1", "b": true, "l": [1, "2"], "o": {}})");
  for (const char* key : {"f", "whole", "s", "b", "l", "o"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(object.OptionalInt(key, 0, 9).status())) << key;
  }
  EXPECT_FALSE(object.Number("s").ok());
  EXPECT_FALSE(object.Number("b").ok());
  EXPECT_FALSE(object.Bool("f").ok());
  EXPECT_FALSE(object.String("f").ok());
  EXPECT_FALSE(object.Object("l").ok());
  EXPECT_FALSE(object.OptionalObject("f").ok());
  EXPECT_EQ(WordsOf(object.OptionalIntList("l", 0, 9).status()),
            "config.json: \"l[1]\" is \"2\", not a whole number");
  EXPECT_EQ(WordsOf(object.StringList("o").status()),
            "config.json: \"o\" is an object, not a string");
}

TEST(JsonObjectTest, HoldsWholeNumbersToTheirRange) {
  const JsonObject object = Parsed(
      R"({"min": -9223372036854775808, "max": 9223372036854775807, "over": 9223372036854775808,
                 "top": 18446744073709551615, "beyond": 18446744073709551616})");
  EXPECT_EQ(*object.Int("min", INT64_MIN, INT64_MAX), INT64_MIN);
  EXPECT_EQ(*object.Int("max", INT64_MIN, INT64_MAX), INT64_MAX);
  for (const char* key : {"over", "top", "beyond"})
    EXPECT_FALSE(object.Int(key, INT64_MIN, INT64_MAX).ok()) << key;
  EXPECT_EQ(*object.Number("beyond"), 0x1p64);
}

TEST(JsonObjectTest, TakesSixtyFourBitsWithOrWithoutASign) {
  const JsonObject object =
      Parsed(R"({"top": 18446744073709551615, "less": -1, "beyond": 18446744073709551616,
                 "half": 0.5})");
  EXPECT_EQ(*object.OptionalBits("top"), UINT64_MAX);
  EXPECT_EQ(*object.OptionalBits("less"), UINT64_MAX);
  EXPECT_EQ(*object.OptionalBits("absent"), std::nullopt);
  for (const char* key : {"beyond", "half"}) EXPECT_FALSE(object.OptionalBits(key).ok()) << key;
}

TEST(JsonObjectTest, TellsWhichFieldAnErrorIsAbout) {
  const JsonObject object = *Parsed(R"({"a": {"b": [1, "x"]}})").Object("a");
  EXPECT_EQ(JsonObject::FieldOf(object.IntList("b", 0, 9).status()), "a.b[1]");
  EXPECT_EQ(JsonObject::FieldOf(object.Error("c", "is odd", absl::StatusCode::kUnimplemented)),
            "a.c");
  EXPECT_EQ(object.PathOf("c"), "a.c");
  EXPECT_EQ(JsonObject::FieldOf(JsonObject::Parse("{", "config.json").status()), "");
}

TEST(JsonObjectTest, LetsTheLastOfEqualKeysWin) {
  EXPECT_EQ(*Parsed(R"({"a": 1, "a": 2})").Int("a", 0, 9), 2);
}

TEST(JsonObjectTest, ListsItsKeysSorted) {
  EXPECT_THAT(Parsed(R"({"b": null, "a": 1})").keys(), ElementsAre("a", "b"));
}

TEST(JsonObjectTest, KeepsThePartAliveWithoutTheWhole) {
  absl::StatusOr<JsonObject> part = absl::UnknownError("");
  {
    const JsonObject whole = Parsed(R"({"a": {"b": {"c": "deep"}}})");
    part = whole.Object("a")->Object("b");
  }
  EXPECT_EQ(*part->String("c"), "deep");
}

TEST(JsonObjectTest, RefusesNumbersThatAreNotFinite) {
  for (const char* number : {"NaN", "Infinity", "-Infinity", "1e400", "-1e400", "nan"}) {
    RefusalOf(absl::StrCat("{\"temperature\": ", number, "}"));
  }
}

TEST(JsonObjectTest, RefusesWhatIsNoObject) {
  for (const char* text :
       {"", " ", "[]", "1", "\"x\"", "null", "{", "{\"a\": 1,}", "{\"a\": 1} x", "{'a': 1}"}) {
    RefusalOf(text);
  }
  RefusalOf(absl::string_view("{}\0x", 4));
}

TEST(JsonObjectTest, RefusesInvalidUtf8) {
  RefusalOf("{\"a\": \"\xff\xfe\"}");
  RefusalOf("{\"\xed\xa0\x80\": 1}");
  RefusalOf("{\"a\": \"\\ud800\"}");
}

TEST(JsonObjectTest, RefusesNestingBeyondItsLimitOnly) {
  const auto nested = [](int lists) {
    return absl::StrCat("{\"a\": ", std::string(lists, '['), std::string(lists, ']'), "}");
  };
  Parsed(nested(JsonObject::kMaxDepth - 1));
  EXPECT_THAT(RefusalOf(nested(JsonObject::kMaxDepth)), HasSubstr("nested deeper than 64"));
  RefusalOf(std::string(10'000'000, '['));
  Parsed(absl::StrCat(R"({"a": "\"\\)", std::string(1000, '['),
                      "\"}"));  // brackets in a string are text
}

TEST(JsonObjectTest, KeepsErrorsShortHoweverLongTheText) {
  RefusalOf(absl::StrCat("{\"a\": \"", std::string(1'000'000, 'x')));
  const JsonObject object = Parsed(absl::StrCat("{\"a\": \"", std::string(1'000'000, 'x'), "\"}"));
  EXPECT_LT(object.Int("a", 0, 9).status().message().size(), 200u);
}

TEST(JsonObjectTest, ReadsAFileUpToItsLimit) {
  const TempFolder folder;
  const std::string path = folder / "config.json";
  std::ofstream(path) << R"({"a": 1})";
  EXPECT_EQ(*JsonObject::Read(path, 8)->Int("a", 0, 9), 1);
  EXPECT_EQ(JsonObject::Read(path, 8)->file(), path);
  EXPECT_TRUE(absl::IsOutOfRange(JsonObject::Read(path, 7).status()));
  EXPECT_TRUE(absl::IsNotFound(JsonObject::Read(path + ".not_there", 8).status()));
}

}  // namespace
}  // namespace minicpmv
