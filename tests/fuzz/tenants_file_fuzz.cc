// Any bytes as the file of --tenants: an error names the file, and what is granted are numbers
// above 0.
#include <cmath>
#include <cstdint>

#include "tests/fuzz/memory_file.h"
#include "tools/minicpmv/tenants_file.h"

namespace {

void CheckTerms(const minicpmv::router::TenantTerms& terms) {
  CHECK(std::isfinite(terms.weight) && terms.weight > 0) << terms.weight;
  for (const auto& limit : {terms.requests, terms.tokens, terms.pixels}) CHECK(limit > 0) << limit;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace minicpmv;
  const MemoryFile file(data, size);
  const absl::StatusOr<router::TenantBook> book = ReadTenants(file.path());
  if (!book.ok()) {
    CheckNamesTheFile(book.status(), file.path());
    return 0;
  }
  CheckTerms(book->others);
  for (const auto& [name, terms] : book->named) {
    CHECK(!name.empty() && name.size() <= 64u);
    CheckTerms(terms);
  }
  return 0;
}
