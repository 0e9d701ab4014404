#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "minicpmv/transfer/v1/transfer_service.grpc.pb.h"
#include "runtime/link/link.h"
#include "runtime/link/link_observer.h"

namespace minicpmv {

class Arrivals;

struct TransferOptions {
  std::string worker_id;
  Incarnation incarnation = {};
  std::string layout_fingerprint;  // as in ModelIdentity
  // Of each link: how many parcels may travel at a time, and how large one may be.
  int strips = 16;
  int64_t strip_bytes = kMaxParcelBytes;
  // How long the bytes of a parcel may take to come before its link is given up.
  absl::Duration placing_deadline = absl::Seconds(10);
};

// The receiving end of all links that end at a worker: places what comes over TransferService into
// the inbox. Bytes go from the message straight to their places. A parcel whose sender dies or
// stalls ends its placing with Landed(error).
class TransferService final : public transfer::v1::TransferService::WithRawCallbackMethod_Deliver<
                                  transfer::v1::TransferService::WithCallbackMethod_OpenLink<
                                      transfer::v1::TransferService::WithCallbackMethod_CloseLink<
                                          transfer::v1::TransferService::Service>>> {
 public:
  // Inbox and observer live longer than this; this longer than its server.
  TransferService(TransferOptions options, Inbox& inbox, LinkObserver& observer);
  ~TransferService() override;

  grpc::ServerUnaryReactor* OpenLink(grpc::CallbackServerContext* context,
                                     const transfer::v1::OpenLinkRequest* request,
                                     transfer::v1::OpenLinkResponse* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Deliver(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* CloseLink(grpc::CallbackServerContext* context,
                                      const transfer::v1::CloseLinkRequest* request,
                                      transfer::v1::CloseLinkResponse* response) override;

 private:
  std::unique_ptr<Arrivals> arrivals_;
};

}  // namespace minicpmv
