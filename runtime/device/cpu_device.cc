#include "runtime/device/cpu_device.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/device/cpu_stream.h"

namespace minicpmv {
namespace {

constexpr size_t kAlignment = 64;
// From here on bytes come straight from the system: zero, aligned, and free until touched.
constexpr size_t kMapFrom = size_t{256} << 10;

class HeapBuffer final : public Buffer {
 public:
  HeapBuffer(void* data, size_t size) : data_(data), size_(size) {}
  ~HeapBuffer() override { std::free(data_); }
  void* data() override { return data_; }
  size_t size() const override { return size_; }

 private:
  void* data_;
  size_t size_;
};

class MappedBuffer final : public Buffer {
 public:
  MappedBuffer(void* data, size_t size) : data_(data), size_(size) {}
  ~MappedBuffer() override { munmap(data_, size_); }
  void* data() override { return data_; }
  size_t size() const override { return size_; }

 private:
  void* data_;
  size_t size_;
};

}  // namespace

CpuDevice::CpuDevice(std::string name, int threads)
    : name_(std::move(name)), pool_(threads), turns_(Clock::Monotonic()) {}

CpuDevice::~CpuDevice() = default;

absl::StatusOr<std::unique_ptr<Buffer>> CpuDevice::Allocate(size_t bytes) {
  const auto exhausted = [&] {
    return absl::ResourceExhaustedError(absl::StrCat(name_, " has no room for ", bytes, " bytes"));
  };
  if (bytes >= kMapFrom) {
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return exhausted();
    return std::make_unique<MappedBuffer>(data, bytes);
  }
  const size_t rounded =
      bytes == 0 ? kAlignment : (bytes + kAlignment - 1) / kAlignment * kAlignment;
  void* data = std::aligned_alloc(kAlignment, rounded);
  if (data == nullptr) return exhausted();
  std::memset(data, 0, rounded);
  return std::make_unique<HeapBuffer>(data, bytes);
}

std::unique_ptr<Stream> CpuDevice::NewStream() { return std::make_unique<CpuStream>(turns_); }

}  // namespace minicpmv
