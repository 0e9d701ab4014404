#include "services/common/load_board.h"

namespace minicpmv {

control::v1::RoleLoad& RoleLoadOf(control::v1::WorkerLoad& load, common::v1::Role role) {
  for (control::v1::RoleLoad& part : *load.mutable_roles()) {
    if (part.role() == role) return part;
  }
  control::v1::RoleLoad& part = *load.add_roles();
  part.set_role(role);
  return part;
}

}  // namespace minicpmv
