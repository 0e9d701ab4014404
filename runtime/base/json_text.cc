#include "runtime/base/json_text.h"

#include <nlohmann/json.hpp>

namespace minicpmv {

std::string JsonText(absl::string_view text) {
  using Json = nlohmann::json;
  return Json(std::string(text))
      .dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
}

}  // namespace minicpmv
