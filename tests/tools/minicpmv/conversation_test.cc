#include "tools/minicpmv/conversation.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace minicpmv {
namespace {

using ::testing::HasSubstr;

class ConversationTest : public ::testing::Test {
 protected:
  ConversationTest() {
    std::filesystem::create_directories(folder_);
    std::ofstream(absl::StrCat(folder_, "/a.png")) << "picture a";
  }
  ~ConversationTest() override { std::filesystem::remove_all(folder_); }

  absl::StatusOr<Conversation> Parse(const std::string& text) {
    return ParseConversation(text, "c.json", folder_);
  }

  void ExpectRefused(const std::string& text, absl::StatusCode code, const std::string& words) {
    const absl::Status status = Parse(text).status();
    EXPECT_EQ(status.code(), code) << text << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(words)) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("c.json")) << text;
  }

  const std::string folder_ = absl::StrCat(::testing::TempDir(), "/conversation_test.", getpid());
};

TEST_F(ConversationTest, ReadsStringsAndParts) {
  const absl::StatusOr<Conversation> read = Parse(R"({"messages": [
      {"role": "system", "content": "Be brief."},
      {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}},
                                   {"type": "text", "text": "What?"}]}]})");
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->messages.size(), 2u);
  EXPECT_EQ(read->messages[0].role, "system");
  EXPECT_EQ(read->messages[0].parts[0].text, "Be brief.");
  ASSERT_EQ(read->messages[1].parts.size(), 2u);
  EXPECT_TRUE(read->messages[1].parts[0].is_image);
  EXPECT_EQ(read->messages[1].parts[1].text, "What?");
  ASSERT_EQ(read->pictures.size(), 1u);
  EXPECT_EQ(read->pictures[0].bytes, "picture a");
  EXPECT_EQ(read->pictures[0].name, absl::StrCat(folder_, "/a.png"));
}

TEST_F(ConversationTest, ReadsABareListAndShortParts) {
  const absl::StatusOr<Conversation> read = Parse(
      R"( [{"role": "user", "content": [{"image": "a.png"}, {"text": "One"}, {"text": "Two"}]}])");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->messages[0].parts.size(), 3u);
  EXPECT_EQ(read->pictures.size(), 1u);
}

TEST_F(ConversationTest, ReadsDataUris) {
  const absl::StatusOr<Conversation> read = Parse(
      R"([{"role": "user", "content": [{"type": "image_url",
                                        "image_url": {"url": "data:image/png;base64,cGljdHVyZQ=="}}]}])");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->pictures[0].bytes, "picture");
}

TEST_F(ConversationTest, TakesAPathThatIsNotRelative) {
  const absl::StatusOr<Conversation> read = Parse(
      absl::StrCat(R"([{"role": "user", "content": [{"image": ")", folder_, R"(/a.png"}]}])"));
  ASSERT_TRUE(read.ok()) << read.status();
}

TEST_F(ConversationTest, NamesFileAndFieldOfWhatItRefuses) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;
  ExpectRefused("", kInvalid, "");
  ExpectRefused("{", kInvalid, "");
  ExpectRefused("3", kInvalid, "");
  ExpectRefused("{}", kInvalid, "messages");
  ExpectRefused(R"({"messages": 3})", kInvalid, "messages");
  ExpectRefused(R"(["text"])", kInvalid, "messages");
  ExpectRefused(R"([{"content": "x"}])", kInvalid, "role");
  ExpectRefused(R"([{"role": 1, "content": "x"}])", kInvalid, "role");
  ExpectRefused(R"([{"role": "user"}])", kInvalid, "content");
  ExpectRefused(R"([{"role": "user", "content": 5}])", kInvalid, "content");
  ExpectRefused(R"([{"role": "user", "content": [5]}])", kInvalid, "content");
  ExpectRefused(R"([{"role": "user", "content": [{"type": "text"}]}])", kInvalid, "text");
  ExpectRefused(R"([{"role": "user", "content": [{"type": "image_url"}]}])", kInvalid, "image_url");
  ExpectRefused(R"([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}])",
                kInvalid, "url");
  ExpectRefused(R"([{"role": "user", "content": [{"image": ""}]}])", kInvalid, "image");
  ExpectRefused(R"([{"role": "user", "content": [{"type": "input_audio"}]}])", kUnimplemented,
                "type");
  ExpectRefused(R"([{"role": "user", "content": [{"image": "https://example.com/a.png"}]}])",
                kUnimplemented, "image");
  ExpectRefused(R"([{"role": "user", "content": [{"image": "data:image/png;base64,???"}]}])",
                kInvalid, "base64");
  ExpectRefused(R"([{"role": "user", "content": [{"image": "data:image/png,abc"}]}])", kInvalid,
                "base64");
}

TEST_F(ConversationTest, NamesAPictureThatIsNotThere) {
  const absl::Status status =
      Parse(R"([{"role": "user", "content": [{"image": "absent.png"}]}])").status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("absent.png"));
}

TEST_F(ConversationTest, RefusesMorePicturesThanAConversationMayShow) {
  std::string text = R"([{"role": "user", "content": [{"image": "a.png"})";
  for (int i = 0; i < kMaxImages; ++i) absl::StrAppend(&text, R"(,{"image": "a.png"})");
  ExpectRefused(text + "]}]", absl::StatusCode::kInvalidArgument, "64");
}

TEST_F(ConversationTest, ResolvesPathsFromTheFilesOwnFolder) {
  const std::string path = absl::StrCat(folder_, "/c.json");
  std::ofstream(path) << R"([{"role": "user", "content": [{"image": "a.png"}]}])";
  const absl::StatusOr<Conversation> read = ReadConversation(path);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(absl::IsNotFound(ReadConversation(absl::StrCat(folder_, "/absent.json")).status()));
}

}  // namespace
}  // namespace minicpmv
