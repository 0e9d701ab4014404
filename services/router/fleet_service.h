#pragma once

#include <string>

#include "minicpmv/control/v1/fleet_service.grpc.pb.h"
#include "services/router/fleet.h"
#include "services/router/loop.h"

namespace minicpmv::router {

// minicpmv.control.v1.FleetService over gRPC, around a fleet. What it is given outlives the server
// that it is registered with.
class FleetService final : public control::v1::FleetService::CallbackService {
 public:
  // `incarnation`: the router's own, 16 bytes.
  FleetService(Fleet& fleet, Loop& loop, std::string incarnation);

  grpc::ServerBidiReactor<control::v1::JoinFleetRequest, control::v1::JoinFleetResponse>* JoinFleet(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* context,
                                        const control::v1::ListWorkersRequest* request,
                                        control::v1::ListWorkersResponse* response) override;

 private:
  Fleet& fleet_;
  Loop& loop_;
  const std::string incarnation_;
};

}  // namespace minicpmv::router
