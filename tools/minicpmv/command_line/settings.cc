#include "tools/minicpmv/command_line/settings.h"

#include <yaml-cpp/yaml.h>

#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "runtime/base/blame.h"
#include "runtime/base/mapped_file.h"
#include "runtime/base/quoted.h"
#include "runtime/base/status_macros.h"

namespace minicpmv {
namespace {

constexpr char kConfig[] = "config";
constexpr size_t kMaxFile = 1 << 20;

// By the flag's name, without dashes.
using Values = std::map<std::string, std::vector<std::string>>;

// The flag's name, or nothing for a positional.
std::string NameOf(const CLI::Option& option) {
  return option.get_lnames().empty() ? "" : option.get_lnames().front();
}

bool TakesAValue(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

// A flag that may be named again and again, one value each time.
bool Repeats(const CLI::Option& option) {
  return option.get_items_expected_max() > 1 && option.get_delimiter() == '\0';
}

std::optional<bool> Truth(const std::string& text) {
  const std::string lower = absl::AsciiStrToLower(text);
  if (lower == "true" || lower == "yes" || lower == "on" || lower == "1") return true;
  if (lower == "false" || lower == "no" || lower == "off" || lower == "0") return false;
  return std::nullopt;
}

// The subcommand that the arguments begin with, and how many of them name it: "bench serve" are
// two.
std::pair<const CLI::App*, size_t> SubcommandIn(const CLI::App& root,
                                                const std::vector<std::string>& arguments) {
  const CLI::App* subcommand = &root;
  size_t names = 0;
  for (; names < arguments.size(); ++names) {
    const std::vector<const CLI::App*> found = subcommand->get_subcommands(
        [&](const CLI::App* app) { return app->get_name() == arguments[names]; });
    if (found.empty()) break;
    subcommand = found.front();
  }
  return {subcommand, names};
}

// Flags that the arguments name themselves.
std::set<std::string> NamedBy(const CLI::App& subcommand,
                              const std::vector<std::string>& arguments) {
  std::set<std::string> named;
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    for (const CLI::Option* const option : subcommand.get_options()) {
      for (const std::string& name : option->get_lnames()) {
        const std::string flag = absl::StrCat("--", name);
        if (argument == flag || absl::StartsWith(argument, flag + "="))
          named.insert(NameOf(*option));
      }
      for (const std::string& name : option->get_snames()) {
        if (absl::StartsWith(argument, "-" + name)) named.insert(NameOf(*option));
      }
    }
  }
  return named;
}

// "" where there is no --config.
std::string ConfigFileOf(const std::vector<std::string>& arguments) {
  const std::string flag = absl::StrCat("--", kConfig);
  for (size_t i = 0; i < arguments.size() && arguments[i] != "--"; ++i) {
    if (absl::StartsWith(arguments[i], flag + "=")) return arguments[i].substr(flag.size() + 1);
    if (arguments[i] == flag && i + 1 < arguments.size()) return arguments[i + 1];
  }
  const char* const named = std::getenv(VariableOf(kConfig).c_str());
  return named == nullptr ? "" : named;
}

absl::StatusOr<std::vector<std::string>> ValuesOf(const YAML::Node& node) {
  std::vector<std::string> values;
  if (node.IsScalar()) {
    values.push_back(node.Scalar());
  } else if (node.IsSequence()) {
    for (const YAML::Node& item : node) {
      if (!item.IsScalar()) return absl::InvalidArgumentError("a list holds more than values");
      values.push_back(item.Scalar());
    }
  } else {
    return absl::InvalidArgumentError("neither a value nor a list");
  }
  return values;
}

absl::StatusOr<Values> ReadConfig(const CLI::App& subcommand, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxFile));
  Values read;
  try {
    const YAML::Node file = YAML::Load(text);
    if (!file.IsDefined() || file.IsNull()) return read;
    if (!file.IsMap()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": not a list of \"flag: value\""));
    }
    for (const auto& entry : file) {
      if (!entry.first.IsScalar()) {
        return absl::InvalidArgumentError(absl::StrCat(path, ": a key is no flag's name"));
      }
      const std::string name = entry.first.Scalar();
      const std::string where = absl::StrCat(path, ": ", Quoted(name));
      const CLI::Option* const option = subcommand.get_option_no_throw(absl::StrCat("--", name));
      if (option == nullptr || name == kConfig || name == "help") {
        return absl::InvalidArgumentError(
            absl::StrCat(where, " is no flag of ", subcommand.get_name()));
      }
      absl::StatusOr<std::vector<std::string>> values = ValuesOf(entry.second);
      if (!values.ok()) return Blame(where, values.status());
      if (!read.emplace(name, *std::move(values)).second) {
        return absl::InvalidArgumentError(absl::StrCat(where, " comes twice"));
      }
    }
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": line ", error.mark.line + 1, ": not YAML: ", Quoted(error.msg)));
  }
  return read;
}

// What stands for these values on a command line. `where`: who said so.
absl::StatusOr<std::vector<std::string>> ArgumentsFor(const CLI::Option& option,
                                                      const std::vector<std::string>& values,
                                                      const std::string& where) {
  const std::string flag = absl::StrCat("--", NameOf(option));
  std::vector<std::string> arguments;
  if (!TakesAValue(option)) {
    const std::optional<bool> truth = values.size() == 1 ? Truth(values.front()) : std::nullopt;
    if (!truth.has_value()) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": neither true nor false"));
    }
    if (*truth) arguments.push_back(flag);
  } else if (Repeats(option)) {
    for (const std::string& value : values) arguments.push_back(absl::StrCat(flag, "=", value));
  } else {
    arguments.push_back(absl::StrCat(flag, "=", absl::StrJoin(values, ",")));
  }
  for (const std::string& argument : arguments) {
    if (absl::EndsWith(argument, "=")) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": no value"));
    }
  }
  return arguments;
}

}  // namespace

std::string VariableOf(const std::string& flag) {
  return absl::StrCat("MINICPMV_", absl::AsciiStrToUpper(absl::StrReplaceAll(flag, {{"-", "_"}})));
}

void AddSettingsFlags(CLI::App& subcommand) {
  subcommand
      .add_option(absl::StrCat("--", kConfig),
                  "A YAML file with more flags (listen: 127.0.0.1:0); MINICPMV_LISTEN and the like "
                  "go before it, flags here before both")
      ->type_name("FILE");
  subcommand.add_flag("--check-config")->description("Check all flags, and do nothing else");
}

absl::StatusOr<std::vector<std::string>> CompleteArguments(const CLI::App& root,
                                                           std::vector<std::string> arguments) {
  if (arguments.empty()) return arguments;
  const auto [found, names] = SubcommandIn(root, arguments);
  if (names == 0) return arguments;
  const CLI::App& subcommand = *found;
  const std::set<std::string> named = NamedBy(subcommand, arguments);
  Values file;
  const std::string path = ConfigFileOf(arguments);
  if (!path.empty() && named.count("help") == 0) {
    ASSIGN_OR_RETURN(file, ReadConfig(subcommand, path));
  }
  std::vector<std::string> more;
  for (const CLI::Option* const option : subcommand.get_options()) {
    const std::string name = NameOf(*option);
    if (name.empty() || name == "help" || named.count(name) != 0) continue;
    const std::string variable = VariableOf(name);
    const char* const value = std::getenv(variable.c_str());
    absl::StatusOr<std::vector<std::string>> added = std::vector<std::string>();
    if (value != nullptr && *value != '\0') {
      added = ArgumentsFor(*option, {value}, variable);
    } else if (const auto entry = file.find(name); entry != file.end()) {
      added = ArgumentsFor(*option, entry->second, absl::StrCat(path, ": ", Quoted(name)));
    }
    RETURN_IF_ERROR(added.status());
    more.insert(more.end(), added->begin(), added->end());
  }
  arguments.insert(arguments.begin() + static_cast<ptrdiff_t>(names), more.begin(), more.end());
  return arguments;
}

}  // namespace minicpmv
