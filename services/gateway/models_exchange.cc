#include "services/gateway/models_exchange.h"

#include <boost/asio/post.hpp>
#include <chrono>

#include "services/common/calls.h"
#include "services/gateway/completion_json.h"

namespace minicpmv::gateway {
namespace {

constexpr std::chrono::seconds kPatience(10);

}  // namespace

void ModelsExchange::Start(std::shared_ptr<Body>) { Ask(); }

void ModelsExchange::GiveUp(const absl::Status& why) {
  if (answering_ != nullptr) std::exchange(answering_, nullptr)->SendError(HttpErrorOf(why));
}

void ModelsExchange::Ask() {
  using Request = chat::v1::ListModelsRequest;
  using Response = chat::v1::ListModelsResponse;
  ++asked_;
  sdk::Servers::Server& server = ground_.routers.servers.InUse();
  const auto entry = std::make_shared<OpenCalls::Entry>(ground_.routers.open_calls);
  ClientUnary<Request, Response>::Start(
      [&](grpc::ClientContext* context, const Request* request, Response* response,
          std::function<void(grpc::Status)> done) {
        server.stub->async()->ListModels(context, request, response, std::move(done));
      },
      Request(),
      [self = shared_from_this(), entry, &server](absl::StatusOr<Response> models) {
        boost::asio::post(self->ground_.routers.loop, [self, &server, models = std::move(models)] {
          self->OnAnswer(server, models);
        });
      },
      [&](grpc::ClientContext& context) {
        ground_.routers.servers.Introduce(context, tenant_);
        context.set_deadline(std::chrono::system_clock::now() + kPatience);
      });
}

void ModelsExchange::OnAnswer(sdk::Servers::Server& server,
                              const absl::StatusOr<chat::v1::ListModelsResponse>& models) {
  if (answering_ == nullptr) return;
  if (absl::IsUnavailable(models.status())) {
    ground_.routers.servers.Leave(server);
    if (asked_ < ground_.routers.servers.size()) {
      Ask();
      return;
    }
  }
  Answering& answering = *std::exchange(answering_, nullptr);
  if (!models.ok()) {
    answering.SendError(HttpErrorOf(models.status()));
    return;
  }
  if (name_.empty()) {
    answering.SendJson(ModelListOf(*models, ground_.created));
    return;
  }
  for (const chat::v1::Model& model : models->models()) {
    if (model.name() != name_) continue;
    answering.SendJson(ModelOf(model, ground_.created));
    return;
  }
  answering.SendError(NoSuchModel(name_));
}

}  // namespace minicpmv::gateway
