#pragma once

#include "minicpmv/control/v1/fleet.pb.h"
#include "services/common/listeners.h"

namespace minicpmv {

// Where the roles of one worker say how they are: each fills in what it knows (its RoleLoadOf;
// `running` is there already, see Worker::Admit; pages; links) when it is asked, for every
// heartbeat, GetWorker and scrape, on any thread; it must not block.
using LoadBoard = Listeners<control::v1::WorkerLoad&>;

// The part of `load` that is about one role; made where there is none.
control::v1::RoleLoad& RoleLoadOf(control::v1::WorkerLoad& load, common::v1::Role role);

}  // namespace minicpmv
