#include "tools/minicpmv/tenants_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <string>

namespace minicpmv {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<router::TenantBook> Read(const std::string& text) {
  const std::string path = ::testing::TempDir() + "/tenants.yaml";
  std::ofstream(path) << text;
  return ReadTenants(path);
}

TEST(TenantsFileTest, HoldsTermsOfSomeAndOfAllOthers) {
  const auto book = Read(
      "tenants:\n"
      "  alice: {weight: 2.5, requests-per-minute: 60, tokens-per-minute: 1e6}\n"
      "  bob:\n"
      "others: {megapixels-per-minute: 0.5}\n");
  ASSERT_TRUE(book.ok()) << book.status();
  const router::TenantTerms& alice = book->TermsOf("alice");
  EXPECT_EQ(alice.weight, 2.5);
  EXPECT_EQ(alice.requests, 60);
  EXPECT_EQ(alice.tokens, 1e6);
  EXPECT_TRUE(std::isinf(alice.pixels));
  EXPECT_EQ(book->TermsOf("bob").weight, 1);
  EXPECT_EQ(book->TermsOf(book->TenantOf("anybody")).pixels, 5e5);
}

TEST(TenantsFileTest, IsRefusedWithWordsThatNameWhatIsWrong) {
  const struct {
    const char *text, *words;
  } kCases[] = {
      {"", "neither tenants nor others"},
      {"- alice", "neither tenants nor others"},
      {"tenant: {alice: {weight: 1}}", "\"tenant\""},
      {"tenants: [alice]", "\"tenants\""},
      {"tenants: {alice: 3}", "alice"},
      {"tenants: {alice: {weight: 0}}", "\"weight\""},
      {"tenants: {alice: {weight: -1}}", "\"weight\""},
      {"tenants: {alice: {weight: .nan}}", "\"weight\""},
      {"tenants: {alice: {weight: 1e16}}", "\"weight\""},
      {"tenants: {alice: {weight: [1]}}", "\"weight\""},
      {"tenants: {alice: {wait: 1}}", "\"wait\""},
      {"tenants: {\"\": {weight: 1}}", "1 to 64 bytes"},
      {"tenants: {alice: {weight: 1}, alice: {weight: 2}}", "alice"},
      {"others: {tokens-per-minute: none}", "tokens-per-minute"},
      {"tenants: {", "not YAML"},
  };
  for (const auto& example : kCases) {
    const absl::Status status = Read(example.text).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << example.text << ": " << status;
    EXPECT_THAT(status.message(), HasSubstr("tenants.yaml")) << example.text;
    EXPECT_THAT(status.message(), HasSubstr(example.words)) << example.text;
  }
}

TEST(TenantsFileTest, ThatIsNotThereIsNamed) {
  const absl::Status status = ReadTenants("/nowhere/tenants.yaml").status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("/nowhere/tenants.yaml"));
}

}  // namespace
}  // namespace minicpmv
