#include "tools/minicpmv/show_workers.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace minicpmv {
namespace {

control::v1::ListWorkersResponse FleetOfTwo() {
  control::v1::ListWorkersResponse fleet;
  control::v1::FleetMember& first = *fleet.add_workers();
  first.mutable_hello()->set_worker_id("decode-0");
  first.mutable_hello()->set_pid(12);
  first.mutable_hello()->set_address("10.0.0.1:7001");
  first.mutable_hello()->set_admin_address("10.0.0.1:7002");
  first.mutable_hello()->add_roles(common::v1::ROLE_DECODE);
  first.mutable_hello()->add_roles(common::v1::ROLE_PREFILL);
  first.mutable_hello()->mutable_capacity()->set_pages(128);
  first.mutable_load()->set_state(control::v1::WORKER_STATE_READY);
  first.mutable_load()->mutable_pages()->set_free(100);
  first.mutable_load()->add_roles()->set_running(3);
  first.mutable_load()->add_roles()->set_running(2);
  control::v1::LinkState& link = *first.mutable_load()->add_links();
  link.set_peer_id("vision-0");
  link.set_kind(common::v1::LINK_KIND_HOST);
  control::v1::FleetMember& second = *fleet.add_workers();
  second.mutable_hello()->set_worker_id("vision-0");
  second.mutable_hello()->add_roles(common::v1::ROLE_VISION);
  second.mutable_load()->set_state(control::v1::WORKER_STATE_LOST);
  return fleet;
}

TEST(ShowWorkersTest, ListsEveryFieldAsJson) {
  const auto list = nlohmann::json::parse(JsonOf(FleetOfTwo()));
  ASSERT_EQ(list.size(), 2u);
  const nlohmann::json want = {{"id", "decode-0"},
                               {"pid", 12},
                               {"roles", {"decode", "prefill"}},
                               {"address", "10.0.0.1:7001"},
                               {"admin_address", "10.0.0.1:7002"},
                               {"state", "ready"},
                               {"running", 5},
                               {"pages_free", 100},
                               {"pages_total", 128},
                               {"links", {{"vision-0", "host"}}}};
  EXPECT_EQ(list[0], want);
  EXPECT_EQ(list[1]["state"], "lost");
  EXPECT_EQ(list[1]["links"], nlohmann::json::object());
}

TEST(ShowWorkersTest, ListsNobodyAsAnEmptyList) { EXPECT_EQ(JsonOf({}), "[]\n"); }

TEST(ShowWorkersTest, HasALineForEachWorker) {
  EXPECT_EQ(TableOf(FleetOfTwo()),
            "WORKER    ROLES           STATE  RUNNING  PAGES FREE  ADDRESS        ADMIN          "
            "LINKS\n"
            "decode-0  decode,prefill  ready  5        100/128     10.0.0.1:7001  10.0.0.1:7002  "
            "vision-0:host\n"
            "vision-0  vision          lost   0        -                                         "
            "-\n");
}

}  // namespace
}  // namespace minicpmv
