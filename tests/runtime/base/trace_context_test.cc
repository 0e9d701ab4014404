#include "runtime/base/trace_context.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace minicpmv {
namespace {

constexpr char kTrace[] = "0af7651916cd43dd8448eb211c80319c";
constexpr char kParent[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

TEST(TraceContextTest, GoesOnWithATraceThatCame) {
  const TraceContext context = ContinueTrace(kParent, "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7");
  EXPECT_EQ(context.trace_id, kTrace);
  EXPECT_EQ(context.parent_id, "b7ad6b7169203331");
  EXPECT_EQ(context.state, "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7");
  EXPECT_EQ(context.Traceparent(), absl::StrCat("00-", kTrace, "-", context.span_id, "-01"));
  const TraceContext child = ChildOf(context);
  EXPECT_EQ(child.parent_id, context.span_id);
  EXPECT_NE(child.span_id, context.span_id);
  EXPECT_EQ(child.state, context.state);
  EXPECT_TRUE(ParseTraceparent(child.Traceparent()));
}

TEST(TraceContextTest, TakesWhatTheRecommendationAllows) {
  for (const std::string& text : {
           absl::StrCat("00-", kTrace, "-b7ad6b7169203331-00"),
           absl::StrCat("cc-", kTrace, "-b7ad6b7169203331-01"),
           absl::StrCat("cc-", kTrace, "-b7ad6b7169203331-01-what-comes-later"),
           absl::StrCat("cc-", kTrace, "-b7ad6b7169203331-01-"),
       }) {
    EXPECT_TRUE(ParseTraceparent(text)) << text;
  }
  // Flags that this version does not know are not handed on.
  EXPECT_EQ(ParseTraceparent(absl::StrCat("00-", kTrace, "-b7ad6b7169203331-ff"))->flags, 1);
}

TEST(TraceContextTest, IgnoresWhatIsMalformedAndMakesATraceOfItsOwn) {
  const std::string upper = "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01";
  for (const std::string& text : {
           std::string(),
           std::string("00"),
           upper,
           absl::StrCat("ff-", kTrace, "-b7ad6b7169203331-01"),
           absl::StrCat("0g-", kTrace, "-b7ad6b7169203331-01"),
           absl::StrCat("00-", kTrace, "-b7ad6b7169203331-1"),
           absl::StrCat("00-", kTrace, "-b7ad6b7169203331-0g"),
           absl::StrCat("00-", kTrace, "-b7ad6b7169203331-01-"),
           absl::StrCat("00-", kTrace, "-b7ad6b7169203331-010"),
           absl::StrCat("cc-", kTrace, "-b7ad6b7169203331-01.more"),
           absl::StrCat("00-", kTrace, "-b7ad6b716920333-01-"),
           absl::StrCat("00-", kTrace, "-0000000000000000-01"),
           absl::StrCat("00-", std::string(32, '0'), "-b7ad6b7169203331-01"),
           absl::StrCat("00_", kTrace, "-b7ad6b7169203331-01"),
           absl::StrCat(" ", kParent),
           absl::StrCat(kParent, " "),
           absl::StrCat(kParent, ",", kParent),
       }) {
    EXPECT_FALSE(ParseTraceparent(text)) << text;
    const TraceContext context = ContinueTrace(text, "congo=1");
    EXPECT_NE(context.trace_id, kTrace) << text;
    EXPECT_EQ(context.parent_id, "") << text;
    EXPECT_EQ(context.state, "") << text;
    EXPECT_TRUE(ParseTraceparent(context.Traceparent())) << text;
  }
}

TEST(TraceContextTest, DropsAStateThatIsMalformedAndKeepsTheTrace) {
  std::string many;
  for (int i = 0; i < 33; ++i) absl::StrAppend(&many, i == 0 ? "" : ",", "k", i, "=v");
  for (const std::string& state : {
           std::string(),
           std::string(","),
           std::string("novalue"),
           std::string("Upper=1"),
           std::string("1digit=1"),
           std::string("a=1,a=2"),
           std::string("a="),
           std::string("a=b=c"),
           std::string("a@b@c=1"),
           std::string("a=b\n"),
           std::string("a=\tb"),
           std::string("a@=1"),
           absl::StrCat("a=", std::string(511, 'v')),
           absl::StrCat(std::string(257, 'k'), "=v"),
           many,
       }) {
    EXPECT_FALSE(IsTracestate(state)) << state;
    const TraceContext context = ContinueTrace(kParent, state);
    EXPECT_EQ(context.trace_id, kTrace) << state;
    EXPECT_EQ(context.state, "") << state;
  }
  for (const char* const state : {"a=1", "1tenant@system=v a", "a=1, b=2,,c_-*/=!~", "a= v"}) {
    EXPECT_TRUE(IsTracestate(state)) << state;
  }
}

TEST(TraceContextTest, MakesTracesThatDiffer) {
  const TraceContext one = NewTrace(), other = ChildOf(TraceContext());
  EXPECT_NE(one.trace_id, other.trace_id);
  EXPECT_NE(one.span_id, other.span_id);
  EXPECT_EQ(one.flags, 1);
}

}  // namespace
}  // namespace minicpmv
