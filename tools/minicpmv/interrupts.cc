#include "tools/minicpmv/interrupts.h"

#include <pthread.h>

#include <utility>

namespace minicpmv {

Interrupts::Interrupts(const std::vector<int>& signals) : first_(signals.front()) {
  sigemptyset(&signals_);
  for (const int signal : signals) sigaddset(&signals_, signal);
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  thread_ = std::thread([this] { Watch(); });
}

Interrupts::~Interrupts() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    call_ = nullptr;
    stop_ = true;
  }
  pthread_kill(thread_.native_handle(), first_);
  thread_.join();
  pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
}

void Interrupts::Set(std::function<void()> call) {
  const std::lock_guard<std::mutex> lock(mutex_);
  call_ = std::move(call);
}

void Interrupts::Watch() {
  while (true) {
    int signal = 0;
    if (sigwait(&signals_, &signal) != 0) continue;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stop_) return;
    if (call_) call_();
  }
}

}  // namespace minicpmv
