// What every proto of ours promises, read from the descriptors of the generated code.

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "grpc/health/v1/health.pb.h"
#include "minicpmv/chat/v1/chat_service.pb.h"
#include "minicpmv/control/v1/fleet_service.pb.h"
#include "minicpmv/control/v1/worker_service.pb.h"
#include "minicpmv/decode/v1/decode_service.pb.h"
#include "minicpmv/prefill/v1/prefill_service.pb.h"
#include "minicpmv/rpc/v1/error_details.pb.h"
#include "minicpmv/transfer/v1/transfer_service.pb.h"
#include "minicpmv/vision/v1/vision_service.pb.h"

namespace minicpmv {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::EnumDescriptor;
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::FileDescriptor;
using ::google::protobuf::MethodDescriptor;
using ::google::protobuf::ServiceDescriptor;
using ::testing::ElementsAre;

void AddWithImports(const FileDescriptor& file, std::set<const FileDescriptor*>& files) {
  if (!absl::StartsWith(file.package(), "minicpmv.")) return;
  files.insert(&file);
  for (int i = 0; i < file.dependency_count(); ++i) AddWithImports(*file.dependency(i), files);
}

// Every proto file under minicpmv/.
std::set<const FileDescriptor*> OurFiles() {
  std::set<const FileDescriptor*> files;
  for (const FileDescriptor* file : {chat::v1::GenerateReplyRequest::descriptor()->file(),
                                     vision::v1::PutMediaRequest::descriptor()->file(),
                                     prefill::v1::PrefillPromptRequest::descriptor()->file(),
                                     decode::v1::DecodeSequenceRequest::descriptor()->file(),
                                     transfer::v1::OpenLinkRequest::descriptor()->file(),
                                     control::v1::JoinFleetRequest::descriptor()->file(),
                                     control::v1::GetWorkerRequest::descriptor()->file(),
                                     rpc::v1::Status::descriptor()->file()}) {
    AddWithImports(*file, files);
  }
  return files;
}

std::vector<const ServiceDescriptor*> OurServices() {
  std::vector<const ServiceDescriptor*> services;
  for (const FileDescriptor* file : OurFiles()) {
    for (int i = 0; i < file->service_count(); ++i) services.push_back(file->service(i));
  }
  return services;
}

void AddEnums(const Descriptor& message, std::vector<const EnumDescriptor*>& enums) {
  for (int i = 0; i < message.enum_type_count(); ++i) enums.push_back(message.enum_type(i));
  for (int i = 0; i < message.nested_type_count(); ++i) AddEnums(*message.nested_type(i), enums);
}

TEST(ProtoContractTest, HoldsEveryServiceOfThePlan) {
  std::set<std::string> methods;
  for (const ServiceDescriptor* service : OurServices()) {
    for (int i = 0; i < service->method_count(); ++i) {
      const MethodDescriptor& method = *service->method(i);
      methods.insert(absl::StrCat(service->full_name(), ".", method.name(),
                                  method.client_streaming() ? " <" : "",
                                  method.server_streaming() ? " >" : ""));
    }
  }
  EXPECT_THAT(methods, ElementsAre("minicpmv.chat.v1.ChatService.GenerateReply",
                                   "minicpmv.chat.v1.ChatService.ListModels",
                                   "minicpmv.chat.v1.ChatService.StreamReply >",
                                   "minicpmv.chat.v1.ChatService.UploadMedia < >",
                                   "minicpmv.control.v1.FleetService.JoinFleet < >",
                                   "minicpmv.control.v1.FleetService.ListWorkers",
                                   "minicpmv.control.v1.WorkerService.DrainWorker",
                                   "minicpmv.control.v1.WorkerService.GetWorker",
                                   "minicpmv.decode.v1.DecodeService.DecodeSequence >",
                                   "minicpmv.prefill.v1.PrefillService.PrefillPrompt >",
                                   "minicpmv.transfer.v1.TransferService.CloseLink",
                                   "minicpmv.transfer.v1.TransferService.Deliver < >",
                                   "minicpmv.transfer.v1.TransferService.OpenLink",
                                   "minicpmv.vision.v1.VisionService.EncodeMedia >",
                                   "minicpmv.vision.v1.VisionService.PutMedia < >"));
}

TEST(ProtoContractTest, GivesEachRpcItsOwnRequestAndResponse) {
  for (const ServiceDescriptor* service : OurServices()) {
    for (int i = 0; i < service->method_count(); ++i) {
      const MethodDescriptor& method = *service->method(i);
      EXPECT_EQ(method.input_type()->name(), method.name() + "Request") << method.full_name();
      EXPECT_EQ(method.output_type()->name(), method.name() + "Response") << method.full_name();
      EXPECT_EQ(method.input_type()->file(), service->file()) << method.full_name();
      EXPECT_EQ(method.output_type()->file(), service->file()) << method.full_name();
    }
  }
}

TEST(ProtoContractTest, KeepsOneServiceInAFile) {
  for (const FileDescriptor* file : OurFiles()) {
    EXPECT_EQ(file->service_count(), absl::EndsWith(file->name(), "_service.proto") ? 1 : 0)
        << file->name();
  }
}

TEST(ProtoContractTest, NamesEachPackageAfterItsFolder) {
  for (const FileDescriptor* file : OurFiles()) {
    std::string folder = file->name().substr(0, file->name().rfind('/'));
    for (char& c : folder) c = c == '/' ? '.' : c;
    EXPECT_EQ(file->package(), folder);
    EXPECT_TRUE(absl::EndsWith(folder, ".v1")) << folder;
  }
}

TEST(ProtoContractTest, MakesTheZeroOfEachEnumUnspecified) {
  std::vector<const EnumDescriptor*> enums;
  for (const FileDescriptor* file : OurFiles()) {
    for (int i = 0; i < file->enum_type_count(); ++i) enums.push_back(file->enum_type(i));
    for (int i = 0; i < file->message_type_count(); ++i) AddEnums(*file->message_type(i), enums);
  }
  EXPECT_GE(enums.size(), 10u);
  for (const EnumDescriptor* one : enums) {
    ASSERT_NE(one->FindValueByNumber(0), nullptr) << one->full_name();
    EXPECT_TRUE(absl::EndsWith(one->FindValueByNumber(0)->name(), "_UNSPECIFIED"))
        << one->full_name();
  }
}

TEST(ProtoContractTest, KeepsThePublicPackageFreeOfInternalOnes) {
  std::set<const FileDescriptor*> files;
  AddWithImports(*chat::v1::GenerateReplyRequest::descriptor()->file(), files);
  for (const FileDescriptor* file : files) EXPECT_EQ(file->package(), "minicpmv.chat.v1");
}

// What Google publishes as google.rpc, written down once more: name, number and type of each field.
TEST(ProtoContractTest, SpeaksErrorDetailsAsGoogleDoes) {
  const auto fields = [](const Descriptor& message) {
    std::vector<std::string> out;
    for (int i = 0; i < message.field_count(); ++i) {
      const FieldDescriptor& field = *message.field(i);
      std::string type = field.type_name();
      if (field.is_map()) {
        type = "map";
      } else if (field.message_type() != nullptr) {
        type = field.message_type()->name();
      }
      out.push_back(absl::StrCat(field.name(), " ", field.number(), " ",
                                 field.is_repeated() && !field.is_map() ? "repeated " : "", type));
    }
    return out;
  };
  using rpc::v1::BadRequest;
  using rpc::v1::QuotaFailure;
  EXPECT_THAT(fields(*rpc::v1::Status::descriptor()),
              ElementsAre("code 1 int32", "message 2 string", "details 3 repeated Any"));
  EXPECT_THAT(fields(*rpc::v1::RetryInfo::descriptor()), ElementsAre("retry_delay 1 Duration"));
  EXPECT_THAT(fields(*rpc::v1::ErrorInfo::descriptor()),
              ElementsAre("reason 1 string", "domain 2 string", "metadata 3 map"));
  EXPECT_THAT(fields(*BadRequest::descriptor()),
              ElementsAre("field_violations 1 repeated FieldViolation"));
  EXPECT_THAT(fields(*BadRequest::FieldViolation::descriptor()),
              ElementsAre("field 1 string", "description 2 string"));
  EXPECT_THAT(fields(*QuotaFailure::descriptor()), ElementsAre("violations 1 repeated Violation"));
  EXPECT_THAT(fields(*QuotaFailure::Violation::descriptor()),
              ElementsAre("subject 1 string", "description 2 string"));
  EXPECT_THAT(fields(*rpc::v1::RequestInfo::descriptor()),
              ElementsAre("request_id 1 string", "serving_data 2 string"));
}

TEST(ProtoContractTest, SpeaksHealthAsGrpcDoes) {
  const FileDescriptor& file = *grpc::health::v1::HealthCheckRequest::descriptor()->file();
  const ServiceDescriptor* health = file.FindServiceByName("Health");
  ASSERT_NE(health, nullptr);
  EXPECT_EQ(health->full_name(), "grpc.health.v1.Health");
  EXPECT_FALSE(health->FindMethodByName("Check")->server_streaming());
  EXPECT_TRUE(health->FindMethodByName("Watch")->server_streaming());
  EXPECT_EQ(file.FindMessageTypeByName("HealthCheckRequest")->FindFieldByName("service")->number(),
            1);
  EXPECT_EQ(file.FindMessageTypeByName("HealthCheckResponse")->FindFieldByName("status")->number(),
            1);
}

}  // namespace
}  // namespace minicpmv
