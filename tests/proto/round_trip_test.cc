// Every message survives the wire with every field set, and unset optionals stay unset.

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
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
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::FileDescriptor;
using ::google::protobuf::Message;
using ::google::protobuf::Reflection;

void Fill(Message& message);

// Sets one field, or adds one element to a repeated one, to a value that is not its default.
void FillField(const FieldDescriptor& field, Message& message) {
  const Reflection& reflection = *message.GetReflection();
  const int number = field.number();
#define FILL(Type, value)                          \
  if (field.is_repeated()) {                       \
    reflection.Add##Type(&message, &field, value); \
  } else {                                         \
    reflection.Set##Type(&message, &field, value); \
  }                                                \
  break
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      FILL(Int32, -number);
    case FieldDescriptor::CPPTYPE_INT64:
      FILL(Int64, -number);
    case FieldDescriptor::CPPTYPE_UINT32:
      FILL(UInt32, 1u << number);
    case FieldDescriptor::CPPTYPE_UINT64:
      FILL(UInt64, (uint64_t{1} << 63) + number);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      FILL(Double, 0.1 * number);
    case FieldDescriptor::CPPTYPE_FLOAT:
      FILL(Float, 0.5f * number);
    case FieldDescriptor::CPPTYPE_BOOL:
      FILL(Bool, true);
    case FieldDescriptor::CPPTYPE_STRING:
      FILL(String, absl::StrCat("v", number));
    case FieldDescriptor::CPPTYPE_ENUM:
      FILL(Enum, field.enum_type()->value(field.enum_type()->value_count() - 1));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      Fill(field.is_repeated() ? *reflection.AddMessage(&message, &field)
                               : *reflection.MutableMessage(&message, &field));
      break;
  }
#undef FILL
}

// Sets every field; of a oneof the last, as setting one clears the others.
void Fill(Message& message) {
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    FillField(*message.GetDescriptor()->field(i), message);
  }
}

void ExpectSurvivesTheWire(const Message& message) {
  const std::unique_ptr<Message> back(message.New());
  ASSERT_TRUE(back->ParseFromString(message.SerializeAsString())) << message.GetTypeName();
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(message, *back))
      << message.GetTypeName();
}

int CheckFile(const FileDescriptor& file) {
  for (int i = 0; i < file.message_type_count(); ++i) {
    const Descriptor& type = *file.message_type(i);
    const std::unique_ptr<Message> message(
        google::protobuf::MessageFactory::generated_factory()->GetPrototype(&type)->New());
    ExpectSurvivesTheWire(*message);
    Fill(*message);
    ExpectSurvivesTheWire(*message);
    // Each member of a oneof by itself.
    for (int j = 0; j < type.field_count(); ++j) {
      if (type.field(j)->real_containing_oneof() == nullptr) continue;
      message->Clear();
      FillField(*type.field(j), *message);
      EXPECT_TRUE(message->GetReflection()->HasField(*message, type.field(j)));
      ExpectSurvivesTheWire(*message);
    }
  }
  int checked = file.message_type_count();
  for (int i = 0; i < file.dependency_count(); ++i) {
    if (absl::StartsWith(file.dependency(i)->package(), "minicpmv.")) {
      checked += CheckFile(*file.dependency(i));
    }
  }
  return checked;
}

TEST(ProtoRoundTripTest, CarriesEveryFieldOfEveryMessage) {
  int checked = 0;
  for (const Descriptor* type :
       {chat::v1::GenerateReplyRequest::descriptor(), vision::v1::PutMediaRequest::descriptor(),
        prefill::v1::PrefillPromptRequest::descriptor(),
        decode::v1::DecodeSequenceRequest::descriptor(),
        transfer::v1::OpenLinkRequest::descriptor(), control::v1::JoinFleetRequest::descriptor(),
        control::v1::GetWorkerRequest::descriptor(), rpc::v1::Status::descriptor()}) {
    checked += CheckFile(*type->file());
  }
  EXPECT_GT(checked, 60);
}

TEST(ProtoRoundTripTest, TellsUnsetFromZero) {
  decode::v1::Sampling sampling;
  sampling.set_top_k(0);  // "off", not "the model's default"
  decode::v1::Sampling back;
  ASSERT_TRUE(back.ParseFromString(sampling.SerializeAsString()));
  EXPECT_TRUE(back.has_top_k());
  EXPECT_FALSE(back.has_temperature());
  EXPECT_FALSE(back.has_greedy());
}

// A token message is sent for each step and sequence: it has to stay small.
TEST(ProtoRoundTripTest, SpendsFewBytesOnAToken) {
  decode::v1::DecodeSequenceResponse response;
  response.mutable_tokens()->add_tokens(151645);
  response.mutable_tokens()->set_first_index(2047);
  response.mutable_tokens()->mutable_step_start()->set_seconds(100);
  response.mutable_tokens()->mutable_step_start()->set_nanos(999999999);
  *response.mutable_tokens()->mutable_step_end() = response.tokens().step_start();
  EXPECT_LE(response.ByteSizeLong(), 40u);
}

// 256 KiB of bytes and what goes with them pass under gRPC's own limit of 4 MiB, and under 1 MiB.
TEST(ProtoRoundTripTest, KeepsChunksUnderTheMessageLimit) {
  transfer::v1::DeliverRequest request;
  request.mutable_bytes()->set_data(std::string(256 << 10, '\xff'));
  EXPECT_LT(request.ByteSizeLong(), (256u << 10) + 64);
}

}  // namespace
}  // namespace minicpmv
