#include "tools/minicpmv/load/bench_serve.h"

#include <gtest/gtest.h>

#include "tools/minicpmv/command_line.h"

namespace minicpmv {
namespace {

TEST(BenchServeTest, ReadsShares) {
  EXPECT_EQ(*ParseMix("text:6,image:3,images:1"), (LoadMix{6, 3, 1}));
  EXPECT_EQ(*ParseMix("images:0.5"), (LoadMix{0, 0, .5}));
  for (const char* const bad : {"", "text", "text:", "text:-1", "text:nan", "text:1e7", "video:1",
                                "text:1,text:2", "text:0", "text:1,"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseMix(bad).status())) << bad;
  }
}

TEST(BenchServeTest, ReadsAnSlo) {
  EXPECT_EQ(ParseSlo("ttft:2s,itl:200ms")->ttft, absl::Seconds(2));
  EXPECT_EQ(ParseSlo("itl:200ms")->itl, absl::Milliseconds(200));
  EXPECT_EQ(ParseSlo("itl:200ms")->ttft, absl::InfiniteDuration());
  for (const char* const bad : {"", "ttft", "ttft:2", "ttft:-1s", "e2e:1s", "itl:1s,itl:1s"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseSlo(bad).status())) << bad;
  }
}

TEST(BenchServeTest, IsASubcommandOfBench) {
  const char* const words[] = {"minicpmv",   "bench",       "serve",         "--server=127.0.0.1:1",
                               "--rate=2.5", "--seconds=3", "--mix=text:1",  "--burstiness=0.5",
                               "--seed=9",   "--streams=4", "--slo=ttft:1s", "--json=f.json"};
  const auto command = ParseCommandLine(std::size(words), words);
  ASSERT_TRUE(command.ok()) << command.status();
  const auto& options = std::get<BenchServeOptions>(**command);
  EXPECT_EQ(options.server.servers, std::vector<std::string>{"127.0.0.1:1"});
  EXPECT_EQ(options.load.rate, 2.5);
  EXPECT_EQ(options.load.duration, absl::Seconds(3));
  EXPECT_EQ(options.load.mix, (LoadMix{1, 0, 0}));
  EXPECT_EQ(options.load.burstiness, .5);
  EXPECT_EQ(options.load.seed, 9u);
  EXPECT_EQ(options.streams, 4);
  EXPECT_EQ(options.slo.ttft, absl::Seconds(1));
  EXPECT_EQ(options.json, "f.json");
  const char* const alone[] = {"minicpmv", "bench", "--json"};
  EXPECT_TRUE(std::holds_alternative<BenchOptions>(**ParseCommandLine(std::size(alone), alone)));
}

}  // namespace
}  // namespace minicpmv
