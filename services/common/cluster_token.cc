#include "services/common/cluster_token.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpcpp/support/client_interceptor.h>

#include <optional>
#include <utility>

#include "absl/strings/string_view.h"
#include "runtime/base/check.h"
#include "services/common/secret.h"

namespace minicpmv {
namespace {

constexpr char kKey[] = "authorization";
constexpr absl::string_view kScheme = "Bearer ";
constexpr char kRefusal[] = "no or a wrong cluster token";

class Processor final : public grpc::AuthMetadataProcessor {
 public:
  explicit Processor(const std::string& token) : value_(std::string(kScheme) + token) {}

  bool IsBlocking() const override { return false; }
  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext*, OutputMetadata* consumed,
                       OutputMetadata*) override {
    if (metadata.count(kKey) == 1) {
      const grpc::string_ref value = metadata.find(kKey)->second;
      if (value_.Is({value.data(), value.size()})) {
        consumed->emplace(kKey, std::string(value.data(), value.size()));
        return grpc::Status::OK;
      }
    }
    return {grpc::StatusCode::UNAUTHENTICATED, kRefusal};
  }

 private:
  const Secret value_;
};

absl::string_view ViewOf(const grpc_slice& slice) {
  return {reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(slice)), GRPC_SLICE_LENGTH(slice)};
}

// grpc_auth_metadata_processor::process over a Secret: the same decision as Processor's.
void ProcessPlain(void* state, grpc_auth_context*, const grpc_metadata* metadata, size_t count,
                  grpc_process_auth_metadata_done_cb done, void* user_data) {
  const grpc_metadata* found = nullptr;
  size_t values = 0;
  for (size_t i = 0; i < count; ++i) {
    if (ViewOf(metadata[i].key) != kKey) continue;
    found = &metadata[i];
    ++values;
  }
  if (values == 1 && static_cast<const Secret*>(state)->Is(ViewOf(found->value))) {
    done(user_data, found, 1, nullptr, 0, GRPC_STATUS_OK, nullptr);
  } else {
    done(user_data, nullptr, 0, nullptr, 0, GRPC_STATUS_UNAUTHENTICATED, kRefusal);
  }
}

// grpc::InsecureServerCredentials ends the process when it is given a processor; the core below it
// takes one.
class PlainCredentials final : public grpc::ServerCredentials {
 public:
  explicit PlainCredentials(const std::string& token)
      : credentials_(grpc_insecure_server_credentials_create()) {
    grpc_server_credentials_set_auth_metadata_processor(
        credentials_, {ProcessPlain, [](void* value) { delete static_cast<Secret*>(value); },
                       new Secret(std::string(kScheme) + token)});
  }
  ~PlainCredentials() override { grpc_server_credentials_release(credentials_); }

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {
    CHECK(false) << "these have one";
  }

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  grpc_server_credentials* const credentials_;
};

class Interceptor final : public grpc::experimental::Interceptor {
 public:
  explicit Interceptor(const std::string& value) : value_(value) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(
            grpc::experimental::InterceptionHookPoints::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->emplace(kKey, value_);
    }
    methods->Proceed();
  }

 private:
  const std::string& value_;
};

class InterceptorFactory final : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit InterceptorFactory(const std::string& token) : value_(std::string(kScheme) + token) {}

  grpc::experimental::Interceptor* CreateClientInterceptor(
      grpc::experimental::ClientRpcInfo*) override {
    return new Interceptor(value_);
  }

 private:
  const std::string value_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> PlainServerCredentials(const std::string& token) {
  if (token.empty()) return grpc::InsecureServerCredentials();
  return std::make_shared<PlainCredentials>(token);
}

std::shared_ptr<grpc::AuthMetadataProcessor> TokenProcessor(const std::string& token) {
  return std::make_shared<Processor>(token);
}

std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>>
TokenInterceptors(const std::string& token) {
  std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> factories;
  if (!token.empty()) factories.push_back(std::make_unique<InterceptorFactory>(token));
  return factories;
}

}  // namespace minicpmv
