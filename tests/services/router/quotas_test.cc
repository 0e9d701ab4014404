#include "services/router/quotas.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "services/common/status_proto.h"
#include "services/router/virtual_loop.h"

namespace minicpmv::router {
namespace {

class QuotasTest : public ::testing::Test {
 protected:
  QuotasTest() {
    book_.named["alice"].requests = 60;
    book_.named["bob"].tokens = 6000;
    book_.named["free"] = {};
    book_.others.pixels = 6e6;
  }
  bool MayAsk(const std::string& tenant) { return quotas_.Check(tenant).ok(); }

  VirtualLoop loop_;
  TenantBook book_;
  RouterWatch watch_;
  Quotas quotas_{book_, loop_, watch_};
};

TEST_F(QuotasTest, GrantAMinutesWorthAtOnceAndThenSteadily) {
  for (int i = 0; i < 60; ++i) {
    ASSERT_TRUE(MayAsk("alice")) << i;
    quotas_.Use("alice", Quotas::kRequests, 1);
  }
  EXPECT_FALSE(MayAsk("alice"));
  loop_.RunFor(absl::Milliseconds(1500));
  EXPECT_TRUE(MayAsk("alice"));
  quotas_.Use("alice", Quotas::kRequests, 1);
  EXPECT_TRUE(MayAsk("alice")) << "half of one is left";
  quotas_.Use("alice", Quotas::kRequests, 1);
  EXPECT_FALSE(MayAsk("alice"));
  loop_.RunFor(absl::Hours(1));
  quotas_.Use("alice", Quotas::kRequests, 59);
  EXPECT_TRUE(MayAsk("alice"));
  quotas_.Use("alice", Quotas::kRequests, 1);
  EXPECT_FALSE(MayAsk("alice")) << "an hour is worth no more than a minute";
}

TEST_F(QuotasTest, LetALargeRequestInAndThenWaitForWhatItTook) {
  quotas_.Use("bob", Quotas::kTokens, 12000);
  const absl::Status refused = quotas_.Check("bob");
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_EQ(ReasonOf(refused), "QUOTA_EXCEEDED");
  ASSERT_TRUE(RetryAfterOf(refused).has_value());
  EXPECT_GE(*RetryAfterOf(refused), absl::Seconds(60));
  EXPECT_LE(*RetryAfterOf(refused), absl::Seconds(61));
  loop_.RunFor(*RetryAfterOf(refused));
  EXPECT_TRUE(MayAsk("bob"));
}

TEST_F(QuotasTest, AreEachTenantsOwn) {
  quotas_.Use("alice", Quotas::kRequests, 1000);
  quotas_.Use("free", Quotas::kRequests, 1e9);
  EXPECT_FALSE(MayAsk("alice"));
  EXPECT_TRUE(MayAsk("bob"));
  EXPECT_TRUE(MayAsk("free"));
}

TEST_F(QuotasTest, AreOneForAllWhoHaveNoName) {
  quotas_.Use(book_.TenantOf("stranger"), Quotas::kPixels, 1e9);
  EXPECT_FALSE(MayAsk(book_.TenantOf("another stranger")));
  EXPECT_TRUE(MayAsk(book_.TenantOf("bob")));
}

TEST_F(QuotasTest, ForgetNobodyWhoOwes) {
  TenantBook book;
  book.others.requests = 10;
  Quotas quotas(book, loop_, watch_);
  quotas.Use("debtor", Quotas::kRequests, 1000);
  for (int i = 0; i < 10000; ++i) EXPECT_TRUE(quotas.Check(absl::StrCat(i)).ok());
  EXPECT_FALSE(quotas.Check("debtor").ok());
}

}  // namespace
}  // namespace minicpmv::router
