#pragma once

#include <string>

namespace minicpmv {

// A certificate and its key, PEM.
struct Certificate {
  std::string certificate, key;
};

// Signs itself; valid for a day.
Certificate MakeAuthority();
// For 127.0.0.1 and localhost, signed by that authority.
Certificate MakeCertificate(const Certificate& authority);

}  // namespace minicpmv
