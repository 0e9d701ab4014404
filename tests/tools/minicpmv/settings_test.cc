#include "tools/minicpmv/command_line/settings.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/runtime/base/temp_folder.h"
#include "tools/minicpmv/command_line/subcommands.h"

namespace minicpmv {
namespace {

using Words = std::vector<std::string>;

// One value that each flag takes; "" for flags without a value.
const std::map<std::string, std::string>& Samples() {
  static const auto* const samples = new std::map<std::string, std::string>{
      {"admin-listen", "127.0.0.1:1234"},
      {"advertise", "10.0.0.1:1234"},
      {"allow-remote-media", "a.example,*.b.example"},
      {"api-keys-file", "keys"},
      {"batch", "1,2"},
      {"bench serve json", "figures.json"},
      {"bill", ""},
      {"burstiness", "0.5"},
      {"cache-scope", "tenant"},
      {"check-config", ""},
      {"chunk", "16"},
      {"cluster decode", "2"},
      {"context", "512"},
      {"decode", ""},
      {"depth", "2"},
      {"devices", "cpu:threads=1,cpu:threads=1"},
      {"drain-grace", "5s"},
      {"exif", "ignore"},
      {"failovers", "3"},
      {"file-life", "2h"},
      {"force-tokens", "ids.json"},
      {"greedy", ""},
      {"http", "127.0.0.1:1236"},
      {"http-disk-mb", "18"},
      {"http-folder", "/var/tmp"},
      {"id", "worker-7"},
      {"image", "a b.png"},
      {"json", ""},
      {"kv-dtype", "bf16"},
      {"log-format", "json"},
      {"listen", "127.0.0.1:1235"},
      {"max-body-mb", "16"},
      {"max-new-tokens", "7"},
      {"max-prompt-tokens", "700"},
      {"max-requests", "17"},
      {"max-slices", "3"},
      {"media-disk-mb", "12"},
      {"media-folder", "/var/tmp"},
      {"media-mb", "13"},
      {"media-memory-mb", "14"},
      {"messages", "case.json"},
      {"min-new-tokens", "2"},
      {"mix", "text:6,image:3,images:1"},
      {"model", "folder with spaces"},
      {"model-name", "name"},
      {"no-image-id", ""},
      {"out", "trace.safetensors"},
      {"pages", "77"},
      {"patience", "4s"},
      {"prefill", "2"},
      {"prompt", "64"},
      {"queue", "8"},
      {"queue-wait", "2s"},
      {"rate", "2.5"},
      {"reference-quirks", ""},
      {"reflection", ""},
      {"remote-media-timeout", "3s"},
      {"repetition-penalty", "1.05"},
      {"roles", "vision,decode"},
      {"router", "127.0.0.1:1,127.0.0.1:2"},
      {"rows-cache-mb", "15"},
      {"scale", "0.05"},
      {"script", "load.jsonl"},
      {"seconds", "3.5"},
      {"seed", "18446744073709551615"},
      {"sequences", "9"},
      {"server", "127.0.0.1:50070"},
      {"settle", "1m"},
      {"slices", "2"},
      {"slo", "ttft:2s,itl:200ms"},
      {"special", ""},
      {"split", "0-1,2-3"},
      {"stall-after", "500ms"},
      {"step-ms", "2.5"},
      {"steps", "5"},
      {"stop", "a = \"b\", c"},
      {"streams", "4"},
      {"system", "You are: kind"},
      {"tags", "tokens"},
      {"temperature", "0.5"},
      {"tenant-queue", "4"},
      {"tenants", "tenants.yaml"},
      {"think", "500ms"},
      {"threads", "1"},
      {"timeout", "30s"},
      {"tls-ca", "ca.pem"},
      {"tls-certificate", "certificate.pem"},
      {"tls-key", "key.pem"},
      {"token-file", "token"},
      {"tokens", "3"},
      {"top-k", "4"},
      {"top-p", "0.25"},
      {"trace", "trace.json"},
      {"trace-layers", ""},
      {"turns", "1.5"},
      {"vision", "2"},
  };
  return *samples;
}

class SettingsTest : public ::testing::Test {
 protected:
  // What the flag of that subcommand was given, or the words of the refusal.
  static Words Parse(Words arguments, const std::string& flag) {
    CLI::App root("", "minicpmv");
    const std::vector<Subcommand> subcommands = AddSubcommands(root);  // flags are written there
    const Words path = {arguments.begin(), std::find_if(arguments.begin(), arguments.end(),
                                                        [](const std::string& argument) {
                                                          return argument.front() == '-';
                                                        })};
    absl::StatusOr<Words> complete = CompleteArguments(root, std::move(arguments));
    if (!complete.ok()) return {"refused", std::string(complete.status().message())};
    std::reverse(complete->begin(), complete->end());
    try {
      root.parse(*std::move(complete));
    } catch (const CLI::ParseError& error) {
      return {"refused", error.what()};
    }
    const CLI::App* subcommand = &root;
    for (const std::string& name : path) subcommand = subcommand->get_subcommand(name);
    return subcommand->get_option("--" + flag)->results();
  }
  std::string Write(const std::string& text) {
    const std::string path = folder_ / "config.yaml";
    std::ofstream(path) << text;
    return path;
  }
  // {"bench", "serve"} for a subcommand of another.
  static Words PathOf(const CLI::App& subcommand) {
    Words path;
    for (const CLI::App* app = &subcommand; app->get_parent() != nullptr; app = app->get_parent()) {
      path.insert(path.begin(), app->get_name());
    }
    return path;
  }
  // What a subcommand needs, but for that flag.
  static Words Required(const CLI::App& subcommand, const std::string& flag) {
    Words arguments = PathOf(subcommand);
    for (const CLI::Option* const option : subcommand.get_options()) {
      if (!option->get_required() || option->get_lnames().front() == flag) continue;
      const std::string& name = option->get_lnames().front();
      arguments.push_back(absl::StrCat("--", name, "=", Samples().at(name)));
    }
    return arguments;
  }
  static Words With(Words arguments, const std::string& more) {
    arguments.push_back(more);
    return arguments;
  }

  TempFolder folder_;
};

std::string Quote(const std::string& value) {
  std::string quoted = "'";
  for (const char c : value) quoted += c == '\'' ? "''" : std::string(1, c);
  return quoted + "'";
}

TEST_F(SettingsTest, TakesEveryFlagFromTheCommandLineTheFileAndTheEnvironment) {
  CLI::App root("", "minicpmv");
  int flags = 0;
  const std::vector<Subcommand> subcommands = AddSubcommands(root);
  for (const Subcommand& subcommand : subcommands) {
    for (const CLI::Option* const option : subcommand.app->get_options()) {
      if (option->get_lnames().empty()) continue;  // a positional
      const std::string name = option->get_lnames().front();
      if (name == "help" || name == "config") continue;
      const std::string path_name = absl::StrJoin(PathOf(*subcommand.app), " ");
      const std::string where = absl::StrCat(path_name, " --", name);
      auto sample = Samples().find(absl::StrCat(path_name, " ", name));
      if (sample == Samples().end()) sample = Samples().find(name);
      ASSERT_NE(sample, Samples().end()) << where << " has no sample";
      const std::string& value = sample->second;
      const Words required = Required(*subcommand.app, name);

      const Words here = Parse(
          With(required, value.empty() ? "--" + name : absl::StrCat("--", name, "=", value)), name);
      ASSERT_FALSE(here.empty()) << where;
      ASSERT_NE(here.front(), "refused") << where << ": " << here.back();

      const std::string path =
          Write(absl::StrCat(name, ": ", value.empty() ? "true" : Quote(value), "\n"));
      EXPECT_EQ(Parse(With(required, "--config=" + path), name), here) << where << " from the file";

      const std::string variable = VariableOf(name);
      ASSERT_EQ(setenv(variable.c_str(), value.empty() ? "true" : value.c_str(), 1), 0);
      EXPECT_EQ(Parse(required, name), here) << where << " from " << variable;
      unsetenv(variable.c_str());
      ++flags;
    }
  }
  EXPECT_GT(flags, 100);
}

TEST_F(SettingsTest, PrefersTheCommandLineToTheEnvironmentAndThatToTheFile) {
  const std::string path = Write("listen: file\nid: file\nadvertise: file\n");
  setenv("MINICPMV_LISTEN", "environment", 1);
  setenv("MINICPMV_ID", "environment", 1);
  const Words arguments = {"decode", "--config=" + path, "--listen=here"};
  EXPECT_EQ(Parse(arguments, "listen"), Words{"here"});
  EXPECT_EQ(Parse(arguments, "id"), Words{"environment"});
  EXPECT_EQ(Parse(arguments, "advertise"), Words{"file"});
  unsetenv("MINICPMV_LISTEN");
  unsetenv("MINICPMV_ID");
}

TEST_F(SettingsTest, TakesListsFromTheFile) {
  const std::string path = Write("router: [127.0.0.1:1, 127.0.0.1:2]\n");
  EXPECT_EQ(Parse({"decode", "--config=" + path}, "router"), Words{"127.0.0.1:1,127.0.0.1:2"});
  const std::string images = Write("image:\n  - a,b.png\n  - c.png\n");
  EXPECT_EQ(Parse({"chat", "--config", images}, "image"), (Words{"a,b.png", "c.png"}));
}

TEST_F(SettingsTest, FindsTheFileByTheEnvironment) {
  const std::string path = Write("id: file\n");
  setenv("MINICPMV_CONFIG", path.c_str(), 1);
  EXPECT_EQ(Parse({"decode"}, "id"), Words{"file"});
  unsetenv("MINICPMV_CONFIG");
}

TEST_F(SettingsTest, NamesWhatIsWrongInTheFile) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"lisen: x\n", "\"lisen\" is no flag of decode"},
      {"config: x\n", "\"config\" is no flag of decode"},
      {"id: [a, [b]]\n", "\"id\": a list holds more than values"},
      {"id: {a: b}\n", "\"id\": neither a value nor a list"},
      {"id: a\nid: b\n", "\"id\" comes twice"},
      {"id:\n", "\"id\": neither a value nor a list"},
      {"id: ''\n", "\"id\": no value"},
      {"reflection: perhaps\n", "\"reflection\": neither true nor false"},
      {"- id\n", "not a list of \"flag: value\""},
      {"id: [\n", "not YAML"},
      {"id: \"\\xZZ\"\n", "not YAML"},
      {"drain-grace: soon\n", "\"soon\" is no duration"},
  };
  for (const auto& [text, words] : cases) {
    const Words parsed = Parse({"decode", "--config=" + Write(text)}, "id");
    ASSERT_EQ(parsed.size(), 2u) << text;
    EXPECT_EQ(parsed.front(), "refused") << text;
    EXPECT_NE(parsed.back().find(words), std::string::npos) << text << parsed.back();
  }
  EXPECT_EQ(Parse({"decode", "--config=/nowhere/config.yaml"}, "id").front(), "refused");
  EXPECT_TRUE(Parse({"decode", "--config=" + Write("")}, "id").empty());
  EXPECT_TRUE(Parse({"decode", "--config=" + Write("reflection: false\n")}, "reflection").empty());
}

}  // namespace
}  // namespace minicpmv
