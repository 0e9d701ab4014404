#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace minicpmv {

// Stands between two ends of connections on this machine and spoils what passes. Thread-safe.
class LinkProxy {
 public:
  // Forwards to "127.0.0.1:port".
  explicit LinkProxy(const std::string& target);
  ~LinkProxy();

  std::string address() const;

  // From the client to the server, the next run of `pattern` that passes has its middle byte
  // flipped. Once.
  void CorruptOnce(const std::string& pattern);
  // The next run of `pattern` from the client passes up to its middle; then all connections end.
  void CutOnce(const std::string& pattern);
  // Nothing passes any more, either way, and nothing is read; nobody is told.
  void Freeze();
  void Thaw();
  // Ends all connections that there are; new ones may come.
  void Cut();

 private:
  enum class Spoil { kNothing, kCorrupt, kCut };
  void Accept();
  void Forward(int from, int to, bool is_to_server);
  void CutLocked();

  const std::string target_;
  int listener_ = -1;
  int port_ = 0;
  std::mutex mutex_;
  std::condition_variable thawed_;
  bool is_frozen_ = false, is_ending_ = false;  // guarded by mutex_
  Spoil spoil_ = Spoil::kNothing;               // guarded by mutex_
  std::string pattern_;                         // guarded by mutex_
  std::vector<int> sockets_;                    // guarded by mutex_
  std::vector<std::thread> threads_;            // guarded by mutex_
  std::thread accepting_;
};

}  // namespace minicpmv
