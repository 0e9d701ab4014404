#include "services/common/process_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <string>

namespace minicpmv {
namespace {

// What the kernels can choose from.
std::string WidestSimd() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return "avx512";
  if (__builtin_cpu_supports("avx2")) return "avx2";
  return "sse";
#else
  return "other";
#endif
}

double Seconds(const timeval& time) { return time.tv_sec + 1e-6 * time.tv_usec; }

// Of virtual and resident memory, in bytes; 0 where they cannot be told.
void ReadMemory(double* virtual_bytes, double* resident_bytes) {
  long pages = 0, resident = 0;
  if (FILE* const file = std::fopen("/proc/self/statm", "re")) {
    if (std::fscanf(file, "%ld %ld", &pages, &resident) != 2) pages = resident = 0;
    std::fclose(file);
  }
  const auto page_bytes = static_cast<double>(sysconf(_SC_PAGESIZE));
  *virtual_bytes = page_bytes * static_cast<double>(pages);
  *resident_bytes = page_bytes * static_cast<double>(resident);
}

int CountDescriptors() {
  DIR* const folder = opendir("/proc/self/fd");
  if (folder == nullptr) return 0;
  int count = -3;  // "." and "..", and the folder itself
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

}  // namespace

const char kVersion[] = MINICPMV_VERSION;

std::unique_ptr<Listeners<>::Entry> AddProcessMetrics(Metrics& metrics) {
  metrics
      .Gauge("minicpmv_build_info", "What this build is; always 1",
             {{"version", kVersion}, {"cuda", "none"}, {"nccl", "none"}, {"simd", WidestSimd()}})
      .Set(1);
  metrics.Gauge("process_start_time_seconds", "Start of the process, in Unix time")
      .Set(static_cast<double>(std::time(nullptr)));
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  metrics.Gauge("process_max_fds", "Most open file descriptors")
      .Set(static_cast<double>(limit.rlim_cur));
  prometheus::Counter& cpu =
      metrics.Counter("process_cpu_seconds_total", "User and system CPU time");
  prometheus::Gauge& virtual_memory =
      metrics.Gauge("process_virtual_memory_bytes", "Virtual memory");
  prometheus::Gauge& resident_memory =
      metrics.Gauge("process_resident_memory_bytes", "Resident memory");
  prometheus::Gauge& descriptors = metrics.Gauge("process_open_fds", "Open file descriptors");
  return metrics.before_each_text().Add([&] {
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    cpu.Increment(Seconds(usage.ru_utime) + Seconds(usage.ru_stime) - cpu.Value());
    double virtual_bytes, resident_bytes;
    ReadMemory(&virtual_bytes, &resident_bytes);
    virtual_memory.Set(virtual_bytes);
    resident_memory.Set(resident_bytes);
    descriptors.Set(CountDescriptors());
  });
}

}  // namespace minicpmv
