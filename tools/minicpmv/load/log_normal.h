#pragma once

#include <cmath>
#include <random>

namespace minicpmv {

// Standard deviations above the mean at which a normal distribution reaches a share of its mass.
inline constexpr double kNormal50 = 0, kNormal90 = 1.2815515655446004,
                        kNormal95 = 1.6448536269514722;

// A quantity whose logarithm is normal: sizes and lengths of requests, nearly.
struct LogNormal {
  double mean = 0, deviation = 0;  // of the logarithm

  // The one whose values at two shares of its mass (as kNormal50) are given.
  static LogNormal Through(double normal, double value, double other_normal, double other_value) {
    const double deviation = std::log(other_value / value) / (other_normal - normal);
    return {std::log(value) - normal * deviation, deviation};
  }

  double Draw(std::mt19937_64& random) const {
    return std::lognormal_distribution<double>(mean, deviation)(random);
  }
};

}  // namespace minicpmv
