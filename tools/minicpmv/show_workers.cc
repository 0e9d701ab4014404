#include "tools/minicpmv/show_workers.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "minicpmv/control/v1/fleet_service.grpc.pb.h"
#include "runtime/base/blame.h"
#include "runtime/base/status_macros.h"
#include "services/common/fleet_names.h"
#include "services/common/status_proto.h"
#include "tools/minicpmv/output.h"

namespace minicpmv {
namespace {

constexpr std::chrono::seconds kPatience(5);

std::vector<std::string> RolesOf(const control::v1::FleetMember& worker) {
  std::vector<std::string> roles;
  for (const int role : worker.hello().roles()) {
    roles.push_back(NameOf(static_cast<common::v1::Role>(role)));
  }
  return roles;
}

uint64_t RunningOf(const control::v1::FleetMember& worker) {
  uint64_t running = 0;
  for (const control::v1::RoleLoad& role : worker.load().roles()) running += role.running();
  return running;
}

absl::StatusOr<control::v1::ListWorkersResponse> Ask(const std::string& address,
                                                     const Credentials& credentials) {
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, credentials.Dial(address));
  const auto stub = control::v1::FleetService::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  control::v1::ListWorkersResponse response;
  RETURN_IF_ERROR(FromGrpc(stub->ListWorkers(&context, {}, &response)));
  return response;
}

}  // namespace

std::string JsonOf(const control::v1::ListWorkersResponse& fleet) {
  using Json = nlohmann::ordered_json;
  Json list = Json::array();
  for (const control::v1::FleetMember& worker : fleet.workers()) {
    Json links = Json::object();
    for (const control::v1::LinkState& link : worker.load().links()) {
      links[link.peer_id()] = NameOf(link.kind());
    }
    list.push_back({{"id", worker.hello().worker_id()},
                    {"pid", worker.hello().pid()},
                    {"roles", RolesOf(worker)},
                    {"address", worker.hello().address()},
                    {"admin_address", worker.hello().admin_address()},
                    {"state", NameOf(worker.load().state())},
                    {"running", RunningOf(worker)},
                    {"pages_free", worker.load().pages().free()},
                    {"pages_total", worker.hello().capacity().pages()},
                    {"links", std::move(links)}});
  }
  return absl::StrCat(list.dump(2), "\n");
}

std::string TableOf(const control::v1::ListWorkersResponse& fleet) {
  using Line = std::array<std::string, 8>;
  std::vector<Line> lines = {
      {"WORKER", "ROLES", "STATE", "RUNNING", "PAGES FREE", "ADDRESS", "ADMIN", "LINKS"}};
  for (const control::v1::FleetMember& worker : fleet.workers()) {
    std::vector<std::string> links;
    for (const control::v1::LinkState& link : worker.load().links()) {
      links.push_back(absl::StrCat(link.peer_id(), ":", NameOf(link.kind())));
    }
    const uint32_t pages = worker.hello().capacity().pages();
    lines.push_back({worker.hello().worker_id(), absl::StrJoin(RolesOf(worker), ","),
                     NameOf(worker.load().state()), absl::StrCat(RunningOf(worker)),
                     pages == 0 ? "-" : absl::StrCat(worker.load().pages().free(), "/", pages),
                     worker.hello().address(), worker.hello().admin_address(),
                     links.empty() ? "-" : absl::StrJoin(links, ",")});
  }
  std::string table;
  for (const Line& line : lines) {
    for (size_t column = 0; column < line.size(); ++column) {
      size_t width = 0;
      for (const Line& other : lines) width = std::max(width, other[column].size());
      const bool is_last = column + 1 == line.size();
      absl::StrAppend(&table, line[column],
                      is_last ? "\n" : std::string(width - line[column].size() + 2, ' '));
    }
  }
  return table;
}

absl::Status ShowWorkers(const WorkersOptions& options) {
  ASSIGN_OR_RETURN(const Credentials credentials, Credentials::Load(options.server.credentials));
  absl::Status failure = absl::InvalidArgumentError("--server names no router");
  for (const std::string& address : options.server.servers) {
    const absl::StatusOr<control::v1::ListWorkersResponse> fleet = Ask(address, credentials);
    if (fleet.ok()) return WriteOutput(options.json ? JsonOf(*fleet) : TableOf(*fleet));
    failure = Blame(address, fleet.status());
  }
  return failure;
}

}  // namespace minicpmv
