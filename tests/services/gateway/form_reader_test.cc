#include "services/gateway/form_reader.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace minicpmv::gateway {
namespace {

using ::testing::HasSubstr;

// Fed in pieces of that size; 0: as a whole.
absl::StatusOr<std::vector<FormField>> Read(const std::string& body, size_t piece = 0) {
  FormReader reader("B");
  if (piece == 0) piece = body.size() + 1;
  for (size_t at = 0; at < body.size(); at += piece) {
    const absl::Status status = reader.Read(body.substr(at, piece));
    if (!status.ok()) return status;
  }
  return std::move(reader).Finish();
}

std::string Field(const std::string& disposition, const std::string& value) {
  return absl::StrCat("--B\r\nContent-Disposition: form-data; ", disposition, "\r\n\r\n", value,
                      "\r\n");
}

TEST(FormReaderTest, FindsFieldsHoweverTheyAreCut) {
  const std::string file = "\r\n--A\r\n-\r\n--\r\n\r\n--b--\r";
  const std::string body =
      absl::StrCat("a preamble\r\n", Field("name=\"purpose\"", "vision"),
                   "--B\r\ncontent-type: image/png\r\nCONTENT-DISPOSITION:form-data; Name=file; "
                   "filename=\"a \\\"b\\\";.png\"\r\n\r\n",
                   file, "\r\n", Field("name=empty", ""), "--B--\r\nan epilogue, --B\r\n");
  for (size_t piece = 0; piece <= body.size(); ++piece) {
    const auto fields = Read(body, piece);
    ASSERT_TRUE(fields.ok()) << piece << ": " << fields.status();
    ASSERT_EQ(fields->size(), 3u) << piece;
    const auto value = [&](size_t i) {
      return body.substr(static_cast<size_t>((*fields)[i].offset),
                         static_cast<size_t>((*fields)[i].size));
    };
    EXPECT_EQ((*fields)[0].name, "purpose");
    EXPECT_FALSE((*fields)[0].filename.has_value());
    EXPECT_EQ(value(0), "vision");
    EXPECT_EQ((*fields)[1].name, "file");
    EXPECT_EQ((*fields)[1].filename, "a \"b\";.png");
    EXPECT_EQ(value(1), file);
    EXPECT_EQ((*fields)[2].name, "empty");
    EXPECT_EQ(value(2), "");
  }
}

TEST(FormReaderTest, RefusesWhatIsNoForm) {
  std::string many;
  for (size_t i = 0; i <= FormReader::kMaxFields; ++i) many += Field("name=a", "x");
  for (const std::string& body :
       {std::string(), std::string("--B"), std::string("--B--x").substr(0, 4), Field("name=a", "x"),
        std::string("x--B\r\n\r\n"), std::string("--Bx\r\n"), std::string("--B\r\n\r\nx\r\n--B--"),
        Field("filename=a", "x") + "--B--", Field("name=\"a", "x") + "--B--",
        Field("name=a; name=b", "x") + "--B--", Field("name=a b", "x"), many + "--B--",
        absl::StrCat("--B\r\nA: ", std::string(FormReader::kMaxHeaderBytes, 'x'), "\r\n\r\n--B--"),
        std::string("--B\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--B--"),
        std::string("--B\r\nContent-Disposition: form-data; name=a\r\n"
                    "Content-Disposition: form-data; name=b\r\n\r\nx\r\n--B--")}) {
    const absl::Status whole = Read(body).status();
    EXPECT_TRUE(absl::IsInvalidArgument(whole)) << body;
    EXPECT_THAT(whole.message(), HasSubstr("multipart/form-data"));
    EXPECT_EQ(Read(body, 1).status(), whole) << body;
  }
}

TEST(FormReaderTest, ReadsBoundaries) {
  EXPECT_EQ(FormBoundaryOf("multipart/form-data; boundary=abc"), "abc");
  EXPECT_EQ(FormBoundaryOf("Multipart/Form-Data;charset=utf-8; BOUNDARY=\"a b'(),./:=?+_-c\""),
            "a b'(),./:=?+_-c");
  for (const char* const wrong :
       {"", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=a",
        "multipart/form-data; boundary=\"a", "multipart/form-data; boundary=\"a \"",
        "multipart/form-data; boundary=a; boundary=b", "multipart/form-data; boundary=a\nb",
        "application/json"}) {
    EXPECT_FALSE(FormBoundaryOf(wrong).has_value()) << wrong;
  }
  EXPECT_TRUE(FormBoundaryOf("multipart/form-data; boundary=" + std::string(70, 'x')));
  EXPECT_FALSE(FormBoundaryOf("multipart/form-data; boundary=" + std::string(71, 'x')));
}

}  // namespace
}  // namespace minicpmv::gateway
