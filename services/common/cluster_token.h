#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

namespace minicpmv {

// The cluster token on the wire: metadata "authorization: Bearer TOKEN" of every call. Seen by
// credentials.cc alone.

// Accepts plaintext connections; with a token, only calls that carry it.
std::shared_ptr<grpc::ServerCredentials> PlainServerCredentials(const std::string& token);

// For credentials of grpc's own kinds.
std::shared_ptr<grpc::AuthMetadataProcessor> TokenProcessor(const std::string& token);

// Adds the token to every call of a channel, whatever its credentials are.
std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>>
TokenInterceptors(const std::string& token);

}  // namespace minicpmv
