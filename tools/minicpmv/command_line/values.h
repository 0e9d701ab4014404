#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace minicpmv {

inline constexpr int64_t kMaxCount = INT32_MAX;
inline constexpr int64_t kMaxSliceFlag = 1024;

// What a flag's value has to be; its refusal quotes the value.

// A whole number in [min, max].
CLI::Validator Whole(int64_t min, int64_t max);
// A whole number of 64 bits.
CLI::Validator Seed();
// A number in [min, max], or in (min, max].
CLI::Validator Number(double min, double max, bool with_min);
CLI::Validator OneOf(std::vector<std::string> names);
// As absl::ParseDuration has it: "500ms", "1.5s", "inf"; not below zero.
CLI::Validator Duration();

// Values that a flag takes more than once, one each time: what follows is not swallowed.
CLI::Option* AddRepeated(CLI::App& app, const std::string& name, std::vector<std::string>& values,
                         const std::string& words, const std::string& type,
                         const std::string& group);

}  // namespace minicpmv
