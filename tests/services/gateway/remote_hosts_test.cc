#include "services/gateway/remote_hosts.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace minicpmv::gateway {
namespace {

using ::testing::HasSubstr;

const RemoteHosts& Hosts() {
  static const RemoteHosts& hosts = *new RemoteHosts(
      *RemoteHosts::Parse({"images.example.org", "*.CDN.example", "files.example:8443", "10.1.2.3",
                           "[fd00::1]:8080", "127.0.0.1:9"}));
  return hosts;
}

TEST(RemoteHostsTest, AllowsWhatIsListedAndNothingElse) {
  for (const char* const url :
       {"https://images.example.org/a.png?b=c", "http://IMAGES.example.org./",
        "HTTPS://images.example.org:443/", "https://a.cdn.example/x", "http://a.b.cdn.example/x",
        "https://files.example:8443/x", "http://10.1.2.3/", "http://0xa.1.2.3/",
        "http://[FD00:0::1]:8080/", "http://127.0.0.1:9/"}) {
    EXPECT_TRUE(Hosts().Check(url).ok()) << url << ": " << Hosts().Check(url).status();
  }
  for (const char* const url : {"https://example.org/",
                                "https://images.example.org.evil/",
                                "https://ximages.example.org/",
                                "https://cdn.example/",
                                "https://xcdn.example/",
                                "https://.cdn.example/",
                                "https://images.example.org:8443/",
                                "https://files.example/",
                                "https://files.example:84430/",
                                "http://10.1.2.4/",
                                "http://127.0.0.1/",
                                "http://127.1:10/",
                                "http://[fd00::1]/",
                                "http://[::ffff:127.0.0.1]:9/",
                                "http://localhost:9/",
                                "ftp://images.example.org/",
                                "file:///etc/passwd",
                                "file://images.example.org/x",
                                "gopher://images.example.org/",
                                "https://user@images.example.org/",
                                "https://user:word@images.example.org/",
                                "https://evil.example@images.example.org/",
                                "https://images.example.org\\@evil.example/",
                                "https://images.example.org evil.example/",
                                "https://images.example.org%00.evil/",
                                "//images.example.org/",
                                "images.example.org",
                                "https://",
                                "",
                                "http:images.example.org",
                                "https://images.example.org:0443x/"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Hosts().Check(url).status())) << url;
  }
  EXPECT_FALSE(RemoteHosts().Check("https://images.example.org/").ok());
  EXPECT_FALSE(Hosts().Check("https://images.example.org/" + std::string(9000, 'x')).ok());
}

TEST(RemoteHostsTest, TakesForPrivateOnlyWhatIsNamedByPortOrAddress) {
  const auto may_be_private = [](const char* url) { return Hosts().Check(url)->may_be_private; };
  EXPECT_FALSE(may_be_private("https://images.example.org/"));
  EXPECT_FALSE(may_be_private("https://a.cdn.example/"));
  EXPECT_TRUE(may_be_private("https://files.example:8443/"));
  EXPECT_TRUE(may_be_private("http://10.1.2.3/"));
  EXPECT_TRUE(may_be_private("http://[fd00::1]:8080/"));
}

TEST(RemoteHostsTest, SendsNoFragment) {
  EXPECT_EQ(Hosts().Check("https://images.example.org/a#b")->url, "https://images.example.org/a");
}

TEST(RemoteHostsTest, NamesTheEntryThatIsNone) {
  for (const char* const entry :
       {"", "*", "*.", "*.*.example", "a b", "a/b", "http://a", "a:", "a:0", "a:65536", "a:b",
        "[::1", "[::1]x", "[a]:1x", "::1", ".a", "a.", "user@a"}) {
    const absl::Status wrong = RemoteHosts::Parse({"good.example", entry}).status();
    EXPECT_TRUE(absl::IsInvalidArgument(wrong)) << entry;
    EXPECT_THAT(wrong.message(), HasSubstr(std::string("\"") + entry + "\"")) << entry;
  }
}

TEST(RemoteHostsTest, KnowsNetworksThatAreNotEverybodys) {
  const auto is_public = [](const char* text) {
    sockaddr_storage storage = {};
    auto* const v4 = reinterpret_cast<sockaddr_in*>(&storage);
    auto* const v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
      storage.ss_family = AF_INET;
    } else {
      EXPECT_EQ(inet_pton(AF_INET6, text, &v6->sin6_addr), 1) << text;
      storage.ss_family = AF_INET6;
    }
    return IsPublic(*reinterpret_cast<sockaddr*>(&storage));
  };
  for (const char* const one :
       {"1.1.1.1", "9.255.255.255", "11.0.0.0", "172.15.0.1", "172.32.0.1", "192.169.0.1",
        "223.255.255.255", "2606:4700::1111", "::ffff:8.8.8.8"}) {
    EXPECT_TRUE(is_public(one)) << one;
  }
  for (const char* const one : {"0.0.0.0",
                                "10.0.0.1",
                                "100.64.0.1",
                                "127.0.0.1",
                                "127.255.255.255",
                                "169.254.169.254",
                                "172.16.0.1",
                                "172.31.255.255",
                                "192.168.0.1",
                                "198.19.0.1",
                                "224.0.0.1",
                                "255.255.255.255",
                                "::",
                                "::1",
                                "fe80::1",
                                "fd00::1",
                                "fc00::1",
                                "ff02::1",
                                "::ffff:127.0.0.1",
                                "::ffff:10.0.0.1",
                                "64:ff9b::7f00:1",
                                "2002:7f00:1::",
                                "2001::1",
                                "2001:db8::1",
                                "::127.0.0.1"}) {
    EXPECT_FALSE(is_public(one)) << one;
  }
}

}  // namespace
}  // namespace minicpmv::gateway
