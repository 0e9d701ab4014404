#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "services/gateway/exchange.h"
#include "services/gateway/ground.h"

namespace minicpmv::gateway {

// GET /v1/models, and /v1/models/NAME. Asks each router once, until one answers.
class ModelsExchange final : public Exchange, public std::enable_shared_from_this<ModelsExchange> {
 public:
  // `name`: "" asks for all.
  ModelsExchange(Ground& ground, Answering& answering, std::string tenant, std::string name)
      : ground_(ground),
        answering_(&answering),
        tenant_(std::move(tenant)),
        name_(std::move(name)) {}

  void Start(std::shared_ptr<Body> body) override;
  void Cancel() override { answering_ = nullptr; }
  void GiveUp(const absl::Status& why) override;

 private:
  void Ask();
  void OnAnswer(sdk::Servers::Server& server,
                const absl::StatusOr<chat::v1::ListModelsResponse>& models);

  Ground& ground_;
  Answering* answering_;  // null: cancelled, or answered
  const std::string tenant_, name_;
  size_t asked_ = 0;
};

}  // namespace minicpmv::gateway
