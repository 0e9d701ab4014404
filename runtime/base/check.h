#pragma once

#include <ostream>
#include <sstream>

namespace minicpmv {

// Collects the words of a failed CHECK; its end writes them with the place and ends the process.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* what);
  [[noreturn]] ~CheckFailure();
  std::ostream& stream() { return words_; }

 private:
  std::ostringstream words_;
};

// Gives both arms of CHECK's conditional the type void, and binds looser than <<.
struct CheckVoid {
  void operator&(std::ostream&) {}
};

}  // namespace minicpmv

// What only a bug can cause. CHECK(pages > 0) << "after " << taken;  prints the values and aborts.
#define CHECK(condition)                  \
  (condition) ? static_cast<void>(0)      \
              : ::minicpmv::CheckVoid() & \
                    ::minicpmv::CheckFailure(__FILE__, __LINE__, #condition).stream()
#define CHECK_OP(op, a, b) CHECK((a)op(b)) << "(" << (a) << " against " << (b) << ") "
#define CHECK_EQ(a, b) CHECK_OP(==, a, b)
#define CHECK_NE(a, b) CHECK_OP(!=, a, b)
#define CHECK_LE(a, b) CHECK_OP(<=, a, b)
#define CHECK_LT(a, b) CHECK_OP(<, a, b)
#define CHECK_GE(a, b) CHECK_OP(>=, a, b)
#define CHECK_GT(a, b) CHECK_OP(>, a, b)
