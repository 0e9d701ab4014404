#include "services/decode/decode_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "services/common/status_proto.h"
#include "tests/services/engine_worker.h"

namespace minicpmv {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

LocalModel& Reference() {
  static LocalModel* const model = Must(LocalModel::Load(NanoOptions(1, 512, 512))).release();
  return *model;
}

Sender& Pages() {
  static Sender* const sender = new Sender(Reference().layout_fingerprint());
  return *sender;
}

Question OneToken() {
  Question question;
  question.prompt.add_tokens(Must(Reference().tokenizer().Encode("a", Tags::kText))[0]);
  question.prompt.set_prompt_tokens(1);
  return question;
}

TEST(DecodeServiceTest, StreamsATokenAMessageAndEndsWithTheBill) {
  EngineWorker worker("worker");
  const Question question = OneToken();
  const auto call = Open(worker, DecodeOf(worker, question));
  const common::v1::Landing landing = call->NextMessage().landing();
  EXPECT_EQ(landing.incarnation(), BytesOf(worker.worker().incarnation()));
  EXPECT_GT(landing.slot(), 0u);
  EXPECT_EQ(landing.held_tokens(), 0u);
  const auto seconds = [](const google::protobuf::Duration& duration) {
    return static_cast<double>(duration.seconds()) + 1e-9 * duration.nanos();
  };
  std::vector<uint32_t> tokens;
  double before = 0;
  for (;;) {
    const decode::v1::DecodeSequenceResponse response = call->NextMessage();
    if (response.has_ending()) {
      EXPECT_EQ(response.ending().new_tokens(), tokens.size());
      EXPECT_EQ(response.ending().bill().lines_size(), 2);
      break;
    }
    EXPECT_EQ(response.tokens().first_index(), tokens.size());
    ASSERT_EQ(response.tokens().tokens_size(), 1);
    EXPECT_GE(seconds(response.tokens().step_start()), before);
    before = seconds(response.tokens().step_end());
    EXPECT_GE(before, seconds(response.tokens().step_start()));
    tokens.push_back(response.tokens().tokens(0));
  }
  EXPECT_TRUE(call->End().ok());
  EXPECT_THAT(tokens, ElementsAreArray(Alone::Answer(Reference(), question)));
  EXPECT_THAT(worker.metrics().Text(),
              HasSubstr(absl::StrCat("minicpmv_generated_tokens_total ", tokens.size(), "\n")));
}

TEST(DecodeServiceTest, EndsWhereToldAndByTheModelsOwnStopTokens) {
  EngineWorker worker("worker");
  Question question = OneToken();
  question.max_new_tokens = 5;
  Answer answer;
  {
    const auto call = Open(worker, DecodeOf(worker, question));
    call->NextMessage();
    Receive(*call, answer);
    EXPECT_EQ(answer.tokens.size(), 5u);
    EXPECT_EQ(answer.ending.reason(), decode::v1::Ending::REASON_LENGTH);
  }
  auto request = DecodeOf(worker, question);
  request.mutable_limits()->add_stop_tokens(answer.tokens[1]);
  const auto call = Open(worker, request);
  call->NextMessage();
  Answer stopped;
  Receive(*call, stopped);
  EXPECT_EQ(stopped.ending.reason(), decode::v1::Ending::REASON_STOP);
  EXPECT_LE(stopped.tokens.size(), 2u);
  EXPECT_EQ(stopped.tokens.back(), answer.tokens[1]);
}

TEST(DecodeServiceTest, RefusesPagesThatDoNotFit) {
  EngineWorker worker("worker");
  const Question question = Ask(Reference(), LongText(20));
  const auto call = Open(worker, DecodeOf(worker, question));
  const common::v1::Destination landing = worker.DestinationOf(call->NextMessage().landing());
  const LanguageSpec& language = Reference().spec().language;
  const std::vector<uint8_t> page(
      static_cast<size_t>(2 * language.kv_heads * 16 * language.head_size) *
      SizeOf(Reference().row_dtype()));
  const auto send = [&](const std::function<void(Parcel&)>& lie) {
    Parcel parcel;
    parcel.label.kind = ParcelKind::kPages;
    parcel.label.index = 1;
    parcel.label.first = 16;
    parcel.label.count = 16;
    parcel.label.dtype = Reference().row_dtype();
    parcel.label.bytes = page.size();
    parcel.content.push_back(
        {page.data(), Reference().row_dtype(),
         Shape{static_cast<int64_t>(page.size() / SizeOf(Reference().row_dtype()))}});
    lie(parcel);
    return Pages().Send(landing, std::move(parcel));
  };
  for (const auto& lie : std::vector<std::function<void(Parcel&)>>{
           [](Parcel& parcel) { parcel.label.index = 5; },
           [](Parcel& parcel) { parcel.label.index = 4'000'000'000; },
           [](Parcel& parcel) { parcel.label.first = 1 << 20; },
           [](Parcel& parcel) { parcel.label.count = 32; },
           [](Parcel& parcel) { parcel.label.count = 1 << 30; },
           [](Parcel& parcel) { parcel.label.dtype = DType::kU8; },
           [](Parcel& parcel) { parcel.label.kind = ParcelKind::kRows; }}) {
    EXPECT_TRUE(absl::IsInvalidArgument(send(lie)));
  }
  EXPECT_TRUE(send([](Parcel&) {}).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(send([](Parcel&) {})));  // it is here
  call->Cancel();
  ASSERT_TRUE(Eventually([&] { return worker.IsAtRest(); }));
  EXPECT_TRUE(absl::IsAborted(send([](Parcel& parcel) { parcel.label.index = 2; })));
}

TEST(DecodeServiceTest, RefusesWhatMakesNoSense) {
  EngineWorker worker("worker");
  const Question question = Ask(Reference(), "Hello");
  using Request = decode::v1::DecodeSequenceRequest;
  const auto names = [&](absl::StatusCode code, const std::string& field,
                         const std::function<void(Request&)>& change) {
    auto request = DecodeOf(worker, question);
    change(request);
    const absl::Status status = Open(worker, request)->End();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(status.ToString(), HasSubstr(field));
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const auto precondition = absl::StatusCode::kFailedPrecondition;
  names(precondition, "model_fingerprint", [](Request& r) { r.clear_model_fingerprint(); });
  names(precondition, "layout_fingerprint", [](Request& r) { r.set_layout_fingerprint("x"); });
  names(invalid, "scope.request_id",
        [](Request& r) { r.mutable_scope()->set_request_id(std::string(129, 'r')); });
  names(invalid, "prompt.tokens", [](Request& r) { r.clear_prompt(); });
  names(invalid, "prompt.tokens[0]", [](Request& r) { r.mutable_prompt()->set_tokens(0, 504); });
  names(absl::StatusCode::kOutOfRange, "prompt.tokens", [](Request& r) {
    for (int i = 0; i < 2048; ++i) r.mutable_prompt()->add_tokens(1);
  });
  names(invalid, "sampling.temperature", [](Request& r) {
    r.mutable_sampling()->set_greedy(false);
    r.mutable_sampling()->set_temperature(std::nan(""));
  });
  names(invalid, "sampling.temperature", [](Request& r) {
    r.mutable_sampling()->set_greedy(false);
    r.mutable_sampling()->set_temperature(-1);
  });
  names(invalid, "sampling.top_p",
        [](Request& r) { r.mutable_sampling()->set_top_p(std::nextafter(1, 2)); });
  names(invalid, "sampling.top_k",
        [](Request& r) { r.mutable_sampling()->set_top_k(4'294'967'295); });
  names(invalid, "sampling.repetition_penalty",
        [](Request& r) { r.mutable_sampling()->set_repetition_penalty(HUGE_VAL); });
  names(invalid, "limits.max_new_tokens", [](Request& r) { r.clear_limits(); });
  names(invalid, "limits.max_new_tokens", [](Request& r) {
    for (int i = 0; i < 3; ++i) r.mutable_prompt()->add_tokens(1);
    r.mutable_limits()->set_max_new_tokens(3);
  });
  names(invalid, "limits.min_new_tokens",
        [](Request& r) { r.mutable_limits()->set_min_new_tokens(4'294'967'295); });
  names(invalid, "limits.stop_tokens",
        [](Request& r) { r.mutable_limits()->add_stop_tokens(504); });
  names(invalid, "limits.stop_tokens", [](Request& r) {
    for (int i = 0; i < 1025; ++i) r.mutable_limits()->add_stop_tokens(1);
  });
  EXPECT_TRUE(worker.IsAtRest());
}

TEST(DecodeServiceTest, HoldsNothingForWhatItRefuses) {
  EngineWorker worker("worker", 1, 16, /*pages=*/24);
  const Question question = Ask(Reference(), LongText(40));
  const auto first = Open(worker, DecodeOf(worker, question));
  first->NextMessage();
  const absl::Status second = Open(worker, DecodeOf(worker, question))->End();
  EXPECT_TRUE(absl::IsResourceExhausted(second)) << second;
  first->Cancel();
  EXPECT_TRUE(Eventually([&] { return worker.IsAtRest(); }));
}

TEST(DecodeServiceTest, HandsAPreemptedSequenceBackAndLeavesNothing) {
  // Room for the prompts and for one of the replies only.
  EngineWorker worker("worker", 1, 16, /*pages=*/40);
  std::vector<std::unique_ptr<DecodeOpen>> calls;
  std::vector<Answer> answers(2);
  std::vector<decode::v1::DecodeSequenceRequest> requests;
  for (int i = 0; i < 2; ++i) {
    Question question = OneToken();
    question.max_new_tokens = 500;
    auto request = DecodeOf(worker, question);
    request.mutable_limits()->set_min_new_tokens(500);  // the model would stop
    requests.push_back(request);
    calls.push_back(Open(worker, request));
    calls.back()->NextMessage();
  }
  for (int i = 0; i < 2; ++i) Receive(*calls[i], answers[i]);
  EXPECT_TRUE(answers[0].status.ok()) << answers[0].status;
  EXPECT_EQ(answers[0].tokens.size(), 500u);
  EXPECT_TRUE(absl::IsAborted(answers[1].status)) << answers[1].status;
  EXPECT_EQ(ReasonOf(answers[1].status), "PREEMPTED");
  EXPECT_TRUE(worker.IsAtRest());
  // It goes on from its tokens; what the first one left is enough.
  auto again = requests[1];
  for (const uint32_t token : answers[1].tokens) again.mutable_prompt()->add_tokens(token);
  const auto call = Open(worker, again);
  const common::v1::Landing landing = call->NextMessage().landing();
  EXPECT_GT(landing.held_tokens(), 0u);
  if (static_cast<int>(landing.held_tokens()) < again.prompt().tokens_size() - 1) {
    prefill::v1::PrefillPromptRequest filling;
    *filling.mutable_scope() = again.scope();
    *filling.mutable_prompt() = again.prompt();
    *filling.mutable_destination() = worker.DestinationOf(landing);
    filling.set_model_fingerprint(again.model_fingerprint());
    filling.set_layout_fingerprint(again.layout_fingerprint());
    EXPECT_TRUE(Open(worker, filling)->End().ok());
  }
  Answer rest = answers[1];
  Receive(*call, rest);
  EXPECT_TRUE(rest.status.ok()) << rest.status;
  EXPECT_THAT(rest.tokens, ElementsAreArray(answers[0].tokens));
}

TEST(DecodeServiceTest, ReportsWhatItHolds) {
  EngineWorker worker("worker", 1, 512, 64);
  const Question question = Ask(Reference(), LongText(20));
  const auto call = Open(worker, DecodeOf(worker, question));
  call->NextMessage();
  control::v1::WorkerLoad load = worker.worker().Load();
  EXPECT_EQ(load.landings(), 1u);
  EXPECT_GT(load.pages().landing(), 0u);
  EXPECT_EQ(
      load.pages().free() + load.pages().held() + load.pages().cached() + load.pages().landing(),
      64u);
  for (const control::v1::RoleLoad& role : load.roles()) {
    EXPECT_EQ(role.running(), role.role() == common::v1::ROLE_DECODE ? 1u : 0u);
  }
  call->Cancel();
  EXPECT_TRUE(Eventually([&] { return worker.IsAtRest(); }));
  load = worker.worker().Load();
  EXPECT_EQ(load.landings(), 0u);
  EXPECT_EQ(load.pages().landing(), 0u);
}

TEST(DecodeServiceTest, ReportsHowFastItIs) {
  EngineWorker worker("worker");
  const Answer answer = AskThrough(worker, worker, Pages(), Ask(Reference(), LongText(20)));
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  const control::v1::WorkerLoad load = worker.worker().Load();
  for (const control::v1::RoleLoad& role : load.roles()) {
    EXPECT_GT(role.rate(), 0) << role.DebugString();
    EXPECT_EQ(role.outstanding(), 0u);
    EXPECT_FALSE(role.has_step_age());
  }
  const std::string text = worker.metrics().Text();
  EXPECT_THAT(text, HasSubstr("minicpmv_step_seconds_count{phase=\"prefill\"} 1\n"));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("minicpmv_step_seconds_count{phase=\"decode\"} ",
                                           answer.tokens.size(), "\n")));
}

TEST(DecodeServiceTest, HandsBackWhatRunsWhenItDrains) {
  EngineWorker worker("worker");
  const auto call = Open(worker, DecodeOf(worker, Ask(Reference(), LongText(20))));
  call->NextMessage();
  worker.worker().Drain(absl::ZeroDuration());
  const absl::Status end = call->End();
  EXPECT_TRUE(absl::IsAborted(end)) << end;
  EXPECT_EQ(ReasonOf(end), "DRAINING");
  EXPECT_TRUE(Eventually([&] { return worker.IsAtRest(); }));
}

}  // namespace
}  // namespace minicpmv
