#include "services/gateway/api_keys.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace minicpmv::gateway {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kFile[] =
    "# who may ask\n"
    "alice sk-alice-0123456789\n"
    "\n"
    "  bob\tsk-bob-0123456789abc  \r\n"
    "alice sk-alice-second-key\n";

TEST(ApiKeysTest, TellsTenantsByTheirKeys) {
  const absl::StatusOr<ApiKeys> keys = ApiKeys::Parse(kFile, "keys");
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ(keys->TenantOf("Bearer sk-alice-0123456789"), "alice");
  EXPECT_EQ(keys->TenantOf("bearer  sk-bob-0123456789abc"), "bob");
  EXPECT_EQ(keys->TenantOf("Bearer sk-alice-second-key"), "alice");
}

TEST(ApiKeysTest, KnowsNobodyElse) {
  const absl::StatusOr<ApiKeys> keys = ApiKeys::Parse(kFile, "keys");
  ASSERT_TRUE(keys.ok());
  for (const char* const shown :
       {"", "Bearer", "Bearer ", "sk-alice-0123456789", "Basic sk-alice-0123456789",
        "Bearer sk-alice-012345678", "Bearer sk-alice-01234567890", "Bearer SK-ALICE-0123456789"}) {
    EXPECT_EQ(keys->TenantOf(shown), std::nullopt) << shown;
  }
}

TEST(ApiKeysTest, AsksNobodyWhereThereAreNone) {
  EXPECT_EQ(ApiKeys().TenantOf(""), "");
  EXPECT_EQ(ApiKeys().TenantOf("Bearer anything"), "");
}

TEST(ApiKeysTest, NamesTheLineAndNeverTheKey) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "has no key"},
      {"# none\n", "has no key"},
      {"alice\n", "line 1"},
      {"\nalice one-secret-of-many and more\n", "line 2"},
      {"alice one-secret-of-many\nalice one-secret-of-many\n", "line 2"},
      {"alice secret\n", "16 to 1024"},
      {std::string(65, 'a') + " sixteen-secret-letters\n", "1 to 64"},
      {"al\x01ice sixteen-secret-letters\n", "1 to 64"},
      {"alice sixteen-secret-\x7fletters\n", "16 to 1024"},
  };
  for (const auto& [text, words] : cases) {
    const absl::Status status = ApiKeys::Parse(text, "keys").status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(words)) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("keys: ")) << text;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("secret"))) << text;
  }
  EXPECT_TRUE(absl::IsNotFound(ApiKeys::Load("/nowhere/keys").status()));
}

}  // namespace
}  // namespace minicpmv::gateway
