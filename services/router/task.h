#pragma once

#include <coroutine>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "services/router/loop.h"

namespace minicpmv::router {

// A coroutine that returns a T. It begins when it is awaited (or started), runs on the loop's
// thread, and may be destroyed wherever it waits: what it holds is let go of from the innermost
// outwards. That is how a request is given up.
template <typename T>
class [[nodiscard]] Task {
 public:
  struct promise_type {
    std::optional<T> result;
    std::coroutine_handle<> caller = std::noop_coroutine();

    Task get_return_object() {
      return Task(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_always initial_suspend() noexcept { return {}; }
    auto final_suspend() noexcept {
      struct GoBack {
        bool await_ready() noexcept { return false; }
        std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> self) noexcept {
          return self.promise().caller;
        }
        void await_resume() noexcept {}
      };
      return GoBack();
    }
    template <typename Value>
    void return_value(Value&& value) {
      result.emplace(std::forward<Value>(value));
    }
    void unhandled_exception() { std::terminate(); }
  };

  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  // Runs up to the first wait. For whoever is no coroutine.
  void Start() { handle_.resume(); }

  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> caller) noexcept {
    handle_.promise().caller = caller;
    return handle_;
  }
  T await_resume() { return std::move(*handle_.promise().result); }

 private:
  explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  std::coroutine_handle<promise_type> handle_;
};

// Where one coroutine waits until something holds. Whoever may have made it hold notifies; the
// coroutine goes on later, from the loop, so that a call may notify and then be destroyed by the
// one who was waiting. Outlives the coroutine.
class Signal {
 public:
  explicit Signal(Loop& loop) : loop_(loop) {}

  void Notify() {
    if (!waiting_ || look_ != nullptr) return;
    look_ = loop_.At(loop_.Now(), [this] { Look(); });
  }

  // co_await signal.Until(...)
  auto Until(std::function<bool()> holds) {
    struct Wait {
      Signal& signal;
      std::function<bool()> holds;
      bool await_ready() { return holds(); }
      void await_suspend(std::coroutine_handle<> waiting) {
        signal.waiting_ = waiting;
        signal.holds_ = &holds;
      }
      void await_resume() {}
    };
    return Wait{*this, std::move(holds)};
  }

 private:
  void Look() {
    look_ = nullptr;
    if (!waiting_ || !(*holds_)()) return;
    holds_ = nullptr;
    std::exchange(waiting_, nullptr).resume();
  }

  Loop& loop_;
  std::coroutine_handle<> waiting_;
  const std::function<bool()>* holds_ = nullptr;
  std::unique_ptr<Loop::Alarm> look_;
};

}  // namespace minicpmv::router
