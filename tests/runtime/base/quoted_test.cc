#include "runtime/base/quoted.h"

#include <gtest/gtest.h>

namespace minicpmv {
namespace {

TEST(QuotedTest, KeepsAnErrorOnOneLineAndShort) {
  EXPECT_EQ(Quoted("llm.norm"), "\"llm.norm\"");
  EXPECT_EQ(Quoted("a\nb\xff"), "\"a\\nb\\xff\"");
  EXPECT_EQ(Quoted(std::string(500, 'x'), 3), "\"xxx...\"");
  EXPECT_EQ(Quoted(""), "\"\"");
}

}  // namespace
}  // namespace minicpmv
