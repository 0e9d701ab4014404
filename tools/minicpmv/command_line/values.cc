#include "tools/minicpmv/command_line/values.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "runtime/base/quoted.h"

namespace minicpmv {

CLI::Validator Whole(int64_t min, int64_t max) {
  return CLI::Validator(
      [=](const std::string& text) -> std::string {
        int64_t number;
        if (absl::SimpleAtoi(text, &number) && number >= min && number <= max) return "";
        return absl::StrCat(Quoted(text), " is no whole number in [", min, ", ", max, "]");
      },
      "");
}

CLI::Validator Seed() {
  return CLI::Validator(
      [](const std::string& text) -> std::string {
        uint64_t number;
        if (absl::SimpleAtoi(text, &number)) return "";
        return absl::StrCat(Quoted(text), " is no whole number in [0, ", UINT64_MAX, "]");
      },
      "");
}

CLI::Validator Number(double min, double max, bool with_min) {
  return CLI::Validator(
      [=](const std::string& text) -> std::string {
        double number;
        if (absl::SimpleAtod(text, &number) && number <= max &&
            (with_min ? number >= min : number > min)) {
          return "";
        }
        return absl::StrCat(Quoted(text), " is no number in ", with_min ? "[" : "(", min, ", ", max,
                            "]");
      },
      "");
}

CLI::Validator OneOf(std::vector<std::string> names) {
  return CLI::Validator(
      [names = std::move(names)](const std::string& text) -> std::string {
        for (const std::string& name : names) {
          if (text == name) return "";
        }
        return absl::StrCat(Quoted(text), " is none of ", absl::StrJoin(names, ", "));
      },
      "");
}

CLI::Validator Duration() {
  return CLI::Validator(
      [](const std::string& text) -> std::string {
        absl::Duration duration;
        if (absl::ParseDuration(text, &duration) && duration >= absl::ZeroDuration()) return "";
        return absl::StrCat(Quoted(text), " is no duration as 500ms, 1.5s or 2m");
      },
      "");
}

CLI::Option* AddRepeated(CLI::App& app, const std::string& name, std::vector<std::string>& values,
                         const std::string& words, const std::string& type,
                         const std::string& group) {
  return app.add_option(name, values, words)
      ->allow_extra_args(false)
      ->type_name(type)
      ->group(group);
}

}  // namespace minicpmv
