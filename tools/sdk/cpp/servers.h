#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "minicpmv/chat/v1/chat_service.grpc.pb.h"
#include "tools/sdk/cpp/client.h"

namespace minicpmv::sdk {

// The routers that a client knows, and which of them is in use. Thread-safe.
class Servers {
 public:
  struct Server {
    std::string address;
    std::unique_ptr<chat::v1::ChatService::Stub> stub;
  };

  explicit Servers(ClientOptions options);

  const ClientOptions& options() const { return options_; }
  size_t size() const { return servers_.size(); }

  Server& InUse() { return servers_[in_use_ % servers_.size()]; }
  // Says with a call who asks: our token, and whose cache is used ("": nobody's in particular).
  void Introduce(grpc::ClientContext& context, const std::string& cache_scope) const;
  // The next one is used from now on, unless others have moved on from `failed` already.
  void Leave(const Server& failed);

 private:
  ClientOptions options_;
  std::vector<Server> servers_;
  std::atomic<size_t> in_use_ = 0;
};

}  // namespace minicpmv::sdk
