#include "runtime/base/data_uri.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace minicpmv {
namespace {

TEST(DataUriTest, HoldsBytesOfAnyType) {
  for (const char* const head :
       {"data:image/png;base64,", "DATA:text/html;charset=x;BASE64,", "data:;base64,"}) {
    const absl::StatusOr<std::string> bytes = BytesOfDataUri(absl::StrCat(head, "YWJj"));
    ASSERT_TRUE(bytes.ok()) << head << bytes.status();
    EXPECT_EQ(*bytes, "abc") << head;
  }
}

// As pasted and wrapped text has it; without padding, as some clients write it.
TEST(DataUriTest, MayHoldWhiteSpaceAndLackPadding) {
  EXPECT_EQ(*BytesOfDataUri("data:image/png;base64,YW\r\n Jj\tZA=="), "abcd");
  EXPECT_EQ(*BytesOfDataUri("data:image/png;base64,YWJjZA"), "abcd");
}

TEST(DataUriTest, MayBeAHundredMegabytesLong) {
  std::string uri = "data:image/png;base64,";
  const size_t head = uri.size();
  uri.resize(head + (size_t{100} << 20), 'A');
  EXPECT_EQ(BytesOfDataUri(uri)->size(), (uri.size() - head) / 4 * 3);
}

TEST(DataUriTest, IsRefusedWhereItHoldsNoBase64) {
  for (const char* const uri :
       {"", "data:", "data:,abc", "data:image/png,abc", "data:image/png;base64",
        "data:image/png;base64:YWJj", "data:image/png;base65,YWJj", "data:image/png;base64,YW=Jj",
        "data:image/png;base64,YWJ\xff", "data:image/png;base64,Y",
        "data:image/png;base64,====", "image/png;base64,YWJj", "http://a/b;base64,YWJj"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(BytesOfDataUri(uri).status())) << uri;
  }
}

}  // namespace
}  // namespace minicpmv
