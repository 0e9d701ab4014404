#pragma once

namespace minicpmv {

// What gRPC has to complain about goes to our log, from now on and in this whole process.
void SendGrpcLogToOurs();

}  // namespace minicpmv
