// Prompts through two services, against one process that does it all.
#include "services/prefill/prefill_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <tuple>
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

Sender& Pictures() {
  static Sender* const sender = new Sender(Reference().layout_fingerprint());
  return *sender;
}

std::vector<Question> Questions() {
  return {Ask(Reference(), LongText(40)), Ask(Reference(), "Where is the star?", {"000-0"}),
          Ask(Reference(), "Which image shows a star?", {"003-0", "003-1", "003-2"})};
}

void ExpectAtRest(EngineWorker& worker) {
  EXPECT_TRUE(Eventually([&] { return worker.IsAtRest(); }));
  const std::string text = worker.metrics().Text();
  EXPECT_THAT(text, HasSubstr("minicpmv_landings 0\n"));
  EXPECT_THAT(text, HasSubstr("minicpmv_pages{state=\"held\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("minicpmv_pages{state=\"landing\"} 0\n"));
}

// Stages of prefill, stages of decode, rows of a chunk.
class SplitTest : public ::testing::TestWithParam<std::tuple<int, int, int>> {};

TEST_P(SplitTest, AnswersAsOneProcessDoes) {
  const auto [prefill_stages, decode_stages, chunk] = GetParam();
  EngineWorker prefill("prefill", prefill_stages, chunk), decode("decode", decode_stages, chunk);
  for (const Question& question : Questions()) {
    const Answer answer = AskThrough(prefill, decode, Pictures(), question);
    ASSERT_TRUE(answer.status.ok()) << answer.status;
    EXPECT_TRUE(answer.prefilled);
    EXPECT_THAT(answer.tokens, ElementsAreArray(Alone::Answer(Reference(), question)));
    EXPECT_EQ(answer.ending.new_tokens(), answer.tokens.size());
  }
  ExpectAtRest(prefill);
  ExpectAtRest(decode);
}

INSTANTIATE_TEST_SUITE_P(Splits, SplitTest,
                         ::testing::Values(std::make_tuple(1, 1, 512), std::make_tuple(1, 1, 16),
                                           std::make_tuple(1, 2, 16), std::make_tuple(2, 1, 16),
                                           std::make_tuple(2, 2, 512)));

TEST(PrefillServiceTest, ComputesTheLandingsOfItsOwnWorkerInPlace) {
  for (const int chunk : {16, 512}) {
    EngineWorker worker("worker", 1, chunk);
    for (const Question& question : Questions()) {
      const Answer answer = AskThrough(worker, worker, Pictures(), question);
      ASSERT_TRUE(answer.status.ok()) << answer.status;
      EXPECT_THAT(answer.tokens, ElementsAreArray(Alone::Answer(Reference(), question)));
      EXPECT_EQ(answer.prefill_bill.sent_bytes(), 0u);
    }
    EXPECT_THAT(worker.metrics().Text(), HasSubstr("{kind=\"pages\",link=\"local\"} 0"));
    ExpectAtRest(worker);
  }
}

TEST(PrefillServiceTest, DrawsWhatOneProcessDraws) {
  EngineWorker prefill("prefill"), decode("decode");
  const Question question = Questions()[0];
  auto request = DecodeOf(decode, question);
  request.mutable_sampling()->set_greedy(false);
  request.mutable_sampling()->set_temperature(1.5);
  request.mutable_sampling()->set_top_k(50);
  request.mutable_sampling()->set_seed(11);
  const auto decoding = Open(decode, request);
  const auto filling =
      Open(prefill,
           PrefillOf(prefill, question, decode.DestinationOf(decoding->NextMessage().landing())));
  EXPECT_TRUE(filling->End().ok());
  Answer answer;
  Receive(*decoding, answer);

  const GenerationDefaults& defaults = Reference().spec().generation;
  SamplingSettings sampling;
  sampling.temperature = 1.5;
  sampling.top_k = 50;
  sampling.top_p = defaults.top_p;
  sampling.repetition_penalty = defaults.repetition_penalty;
  sampling.seed = 11;
  sampling.max_new_tokens = question.max_new_tokens;
  EXPECT_THAT(answer.tokens, ElementsAreArray(Alone::Answer(Reference(), question, sampling)));
}

TEST(PrefillServiceTest, ComputesAndSendsOnlyWhatIsNotHeld) {
  EngineWorker prefill("prefill", 1, 16), decode("decode", 1, 16), other("other", 1, 16);
  Question question = Ask(Reference(), "Which image shows a big star?", {"003-0", "003-1"});
  const std::vector<uint32_t> wanted = Alone::Answer(Reference(), question);
  const int64_t positions = question.prompt.tokens_size() - 1;
  const int64_t full = positions / 16 * 16;
  ASSERT_NE(positions, full);
  AskThrough(prefill, decode, Pictures(), question);

  // The prompt has one page that is not full: all others are where they were.
  const Answer again = AskThrough(prefill, decode, Pictures(), question);
  EXPECT_EQ(again.decode_held, full);
  EXPECT_EQ(again.prefill_held, full);
  EXPECT_THAT(again.tokens, ElementsAreArray(wanted));
  EXPECT_EQ(again.prefill_bill.cached_tokens(), full);

  // A decode worker that has nothing gets what the prefill worker holds.
  const Answer elsewhere = AskThrough(prefill, other, Pictures(), question);
  EXPECT_EQ(elsewhere.decode_held, 0);
  EXPECT_EQ(elsewhere.prefill_held, full);
  EXPECT_THAT(elsewhere.tokens, ElementsAreArray(wanted));

  // Another tenant finds nothing.
  question.cache_scope = "other tenant";
  const Answer stranger = AskThrough(prefill, decode, Pictures(), question);
  EXPECT_EQ(stranger.decode_held, 0);
  EXPECT_EQ(stranger.prefill_held, 0);
  EXPECT_THAT(stranger.tokens, ElementsAreArray(wanted));
}

TEST(PrefillServiceTest, IsNotNeededWhereDecodeHoldsThePrompt) {
  EngineWorker prefill("prefill"), decode("decode");
  Question question = Questions()[0];
  AskThrough(prefill, decode, Pictures(), question);
  question.prompt.mutable_tokens()->Truncate(33);
  question.prompt.set_prompt_tokens(33);
  const Answer answer = AskThrough(prefill, decode, Pictures(), question);
  EXPECT_FALSE(answer.prefilled);
  EXPECT_EQ(answer.decode_held, 32);
  EXPECT_THAT(answer.tokens, ElementsAreArray(Alone::Answer(Reference(), question)));

  question.prompt.mutable_tokens()->Truncate(1);
  question.prompt.set_prompt_tokens(1);
  const Answer single = AskThrough(prefill, decode, Pictures(), question);
  EXPECT_FALSE(single.prefilled);
  EXPECT_THAT(single.tokens, ElementsAreArray(Alone::Answer(Reference(), question)));
}

TEST(PrefillServiceTest, GoesOnFromTheTokensSoFar) {
  EngineWorker prefill("prefill", 2, 16), decode("decode", 1, 16);
  for (const Question& question : Questions()) {
    const std::vector<uint32_t> wanted = Alone::Answer(Reference(), question);
    for (const size_t so_far : {size_t{1}, wanted.size() - 1}) {
      Question rest = question;
      for (size_t i = 0; i < so_far; ++i) rest.prompt.add_tokens(wanted[i]);
      const Answer answer = AskThrough(prefill, decode, Pictures(), rest);
      EXPECT_THAT(answer.tokens,
                  ElementsAreArray(wanted.begin() + static_cast<int64_t>(so_far), wanted.end()));
      EXPECT_EQ(answer.ending.new_tokens(), wanted.size());
    }
  }
}

TEST(PrefillServiceTest, TellsHowFarItIs) {
  EngineWorker prefill("prefill", 1, 16), decode("decode", 1, 16);
  const Question question = Questions()[2];
  const uint32_t positions = static_cast<uint32_t>(question.prompt.tokens_size()) - 1;
  const Answer answer = AskThrough(prefill, decode, Pictures(), question);
  prefill::v1::PrefillProgress before;
  for (const prefill::v1::PrefillProgress& progress : answer.progress) {
    EXPECT_GE(progress.computed_tokens(), before.computed_tokens());
    EXPECT_GE(progress.landed_tokens(), before.landed_tokens());
    EXPECT_GE(progress.landed_spans(), before.landed_spans());
    EXPECT_LE(progress.landed_tokens(), positions);
    before = progress;
  }
  EXPECT_EQ(before.computed_tokens(), positions);
  EXPECT_EQ(before.landed_tokens(), positions);
  EXPECT_EQ(before.landed_spans(), question.rows.size());
  EXPECT_GE(answer.progress.size(), positions / 16);
}

TEST(PrefillServiceTest, BillsWhatItDid) {
  EngineWorker prefill("prefill", 1, 16), decode("decode", 1, 16);
  const Question question = Questions()[0];
  const Answer answer = AskThrough(prefill, decode, Pictures(), question);
  const auto seconds = [](const google::protobuf::Duration& duration) {
    return static_cast<double>(duration.seconds()) + 1e-9 * duration.nanos();
  };
  std::vector<common::v1::Work> works;
  for (const auto& bill : {answer.prefill_bill, answer.ending.bill()}) {
    for (const common::v1::BillLine& line : bill.lines()) {
      works.push_back(line.work());
      EXPECT_GE(seconds(line.end()), seconds(line.start())) << line.DebugString();
      EXPECT_LE(seconds(line.busy()), seconds(line.end()) - seconds(line.start()) + 1e-3)
          << line.DebugString();
    }
  }
  EXPECT_THAT(works, ::testing::ElementsAre(common::v1::WORK_QUEUE, common::v1::WORK_PREFILL,
                                            common::v1::WORK_TRANSFER, common::v1::WORK_QUEUE,
                                            common::v1::WORK_DECODE));
  const LanguageSpec& language = Reference().spec().language;
  const int64_t pages = (question.prompt.tokens_size() - 1 + 15) / 16;
  EXPECT_EQ(answer.prefill_bill.sent_bytes(),
            static_cast<uint64_t>(pages * language.layers * 2 * language.kv_heads * 16 *
                                  language.head_size) *
                SizeOf(Reference().row_dtype()));
}

TEST(PrefillServiceTest, AnswersManyAtOnce) {
  EngineWorker prefill("prefill", 2, 16, 2048), decode("decode", 2, 16, 2048);
  const std::vector<Question> questions = Questions();
  std::vector<std::future<std::vector<uint32_t>>> answers;
  for (int i = 0; i < 24; ++i) {
    Question question = questions[i % 3];
    question.cache_scope = absl::StrCat("tenant ", i);
    answers.push_back(std::async(std::launch::async, [&, question] {
      return AskThrough(prefill, decode, Pictures(), question).tokens;
    }));
  }
  std::vector<std::vector<uint32_t>> wanted;
  for (const Question& question : questions) {
    wanted.push_back(Alone::Answer(Reference(), question));
  }
  for (size_t i = 0; i < answers.size(); ++i) {
    EXPECT_THAT(answers[i].get(), ElementsAreArray(wanted[i % 3])) << i;
  }
  ExpectAtRest(prefill);
  ExpectAtRest(decode);
}

// Whom the client gives up, and after how many messages of the prefill call.
struct Moment {
  bool decode = false;
  bool prefill = false;
  int messages = 0;
};

TEST(PrefillServiceTest, LeavesNothingWheneverItIsCancelled) {
  EngineWorker prefill("prefill", 1, 16), decode("decode", 1, 16), both("both", 1, 16);
  const Question question = Questions()[2];
  const std::vector<uint32_t> wanted = Alone::Answer(Reference(), question);
  int scope = 0;
  for (EngineWorker* const filler : {&prefill, &both}) {
    EngineWorker& decoder = filler == &both ? both : decode;
    for (const Moment moment :
         {Moment{true, false, 0}, Moment{false, true, 0}, Moment{true, true, 0},
          Moment{false, true, 1}, Moment{true, false, 1}, Moment{false, true, 2},
          Moment{true, false, 3}, Moment{true, true, 5}, Moment{false, true, 8},
          Moment{true, false, 8}}) {
      Question fresh = question;
      fresh.cache_scope = absl::StrCat(++scope);
      const auto decoding = Open(decoder, DecodeOf(decoder, fresh));
      const auto filling =
          Open(*filler,
               PrefillOf(*filler, fresh, decoder.DestinationOf(decoding->NextMessage().landing())));
      const common::v1::Landing landing = filling->NextMessage().landing();
      const auto rows = [&](int64_t span, int64_t first, int64_t count) {
        return Pictures().Send(filler->DestinationOf(landing),
                               Sender::RowsOf(fresh, Reference().row_dtype(), span, first, count));
      };
      if (moment.messages > 0) {
        EXPECT_TRUE(rows(0, 0, 8).ok());  // half of a span
      }
      if (moment.messages > 2) {
        EXPECT_TRUE(rows(0, 8, 8).ok());
        for (size_t i = 1; i < fresh.rows.size(); ++i) {
          EXPECT_TRUE(rows(static_cast<int64_t>(i), 0, 16).ok());
        }
      }
      for (int i = 0; i < moment.messages - 1; ++i) filling->NextMessage();
      if (moment.decode) decoding->Cancel();
      if (moment.prefill) filling->Cancel();
      if (moment.decode) {
        EXPECT_FALSE(decoding->End().ok());
      }
      if (moment.prefill) {
        // It may just have been done.
        const absl::Status end = filling->End();
        EXPECT_TRUE(absl::IsCancelled(end) || end.ok()) << end;
      }
      // A client that gives one of them up lets go of the other, too.
      decoding->Cancel();
      filling->Cancel();
      EXPECT_TRUE(Eventually([&] { return filler->IsAtRest() && decoder.IsAtRest(); }));
      // Late rows change nobody.
      if (moment.messages == 1) {
        EXPECT_TRUE(absl::IsAborted(rows(0, 8, 8)));
      }
    }
    const Answer answer = AskThrough(*filler, decoder, Pictures(), question);
    EXPECT_THAT(answer.tokens, ElementsAreArray(wanted));
    ExpectAtRest(*filler);
    ExpectAtRest(decoder);
  }
}

TEST(PrefillServiceTest, LeavesNothingWhenTheDeadlinePasses) {
  EngineWorker prefill("prefill", 1, 16), decode("decode", 1, 16);
  const Question question = Questions()[1];
  const auto decoding = Open(decode, DecodeOf(decode, question), absl::Milliseconds(300));
  const auto filling =
      Open(prefill,
           PrefillOf(prefill, question, decode.DestinationOf(decoding->NextMessage().landing())),
           absl::Milliseconds(300));
  EXPECT_TRUE(absl::IsDeadlineExceeded(decoding->End()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(filling->End()));
  ExpectAtRest(prefill);
  ExpectAtRest(decode);
}

TEST(PrefillServiceTest, EndsWithAbortedWhereTheLandingIsNoMore) {
  EngineWorker prefill("prefill", 1, 16), decode("decode", 1, 16);
  const Question question = Questions()[0];
  const auto decoding = Open(decode, DecodeOf(decode, question));
  const common::v1::Landing landing = decoding->NextMessage().landing();
  decoding->Cancel();
  ASSERT_TRUE(Eventually([&] { return decode.IsAtRest(); }));
  for (EngineWorker* const worker : {&prefill, &decode}) {
    const auto filling = Open(*worker, PrefillOf(*worker, question, decode.DestinationOf(landing)));
    const absl::Status end = filling->End();
    EXPECT_TRUE(absl::IsAborted(end)) << end;
    ExpectAtRest(*worker);
  }
}

TEST(PrefillServiceTest, EndsWithAbortedWhereTheLandingIsOfAnEarlierLife) {
  EngineWorker prefill("prefill"), decode("decode");
  const Question question = Questions()[0];
  const auto decoding = Open(decode, DecodeOf(decode, question));
  common::v1::Landing landing = decoding->NextMessage().landing();
  landing.set_incarnation(std::string(16, 'x'));
  for (EngineWorker* const worker : {&prefill, &decode}) {
    const absl::Status end =
        Open(*worker, PrefillOf(*worker, question, decode.DestinationOf(landing)))->End();
    EXPECT_TRUE(absl::IsAborted(end)) << end;
  }
}

TEST(PrefillServiceTest, EndsWithUnavailableWhereTheDestinationIsGone) {
  EngineWorker prefill("prefill", 1, 16);
  common::v1::Destination destination;
  const Question question = Questions()[0];
  {
    EngineWorker decode("decode", 1, 16);
    const auto decoding = Open(decode, DecodeOf(decode, question));
    destination = decode.DestinationOf(decoding->NextMessage().landing());
    decode.Die();
  }
  const absl::Status end = Open(prefill, PrefillOf(prefill, question, destination))->End();
  EXPECT_TRUE(absl::IsUnavailable(end)) << end;
  ExpectAtRest(prefill);
}

TEST(PrefillServiceTest, EndsWhenTheLandingThatItComputesEnds) {
  EngineWorker worker("worker");
  const Question question = Questions()[1];  // whose rows never come
  const auto decoding = Open(worker, DecodeOf(worker, question));
  const auto filling = Open(
      worker, PrefillOf(worker, question, worker.DestinationOf(decoding->NextMessage().landing())));
  filling->NextMessage();
  decoding->Cancel();
  const absl::Status end = filling->End();
  EXPECT_TRUE(absl::IsAborted(end)) << end;
  ExpectAtRest(worker);
}

TEST(PrefillServiceTest, ALandingWhoseComputingIsGivenUpEndsItsCall) {
  EngineWorker worker("worker");
  const Question question = Questions()[1];  // whose rows never come
  const auto decoding = Open(worker, DecodeOf(worker, question));
  const auto filling = Open(
      worker, PrefillOf(worker, question, worker.DestinationOf(decoding->NextMessage().landing())));
  filling->NextMessage();
  filling->Cancel();
  const absl::Status end = decoding->End();
  EXPECT_TRUE(absl::IsAborted(end)) << end;
  ExpectAtRest(worker);
}

TEST(PrefillServiceTest, ComputesALandingOnceAndForItsOwnPromptOnly) {
  EngineWorker worker("worker");
  const Question question = Questions()[1];
  const auto decoding = Open(worker, DecodeOf(worker, question));
  const common::v1::Destination destination =
      worker.DestinationOf(decoding->NextMessage().landing());
  const absl::Status other = Open(worker, PrefillOf(worker, Questions()[0], destination))->End();
  EXPECT_TRUE(absl::IsInvalidArgument(other)) << other;
  const auto filling = Open(worker, PrefillOf(worker, question, destination));
  filling->NextMessage();
  const absl::Status again = Open(worker, PrefillOf(worker, question, destination))->End();
  EXPECT_TRUE(absl::IsAborted(again)) << again;
}

TEST(PrefillServiceTest, RefusesRowsThatDoNotFit) {
  EngineWorker prefill("prefill"), decode("decode");
  const Question question = Questions()[1];
  const DType dtype = Reference().row_dtype();
  const auto decoding = Open(decode, DecodeOf(decode, question));
  const auto filling =
      Open(prefill,
           PrefillOf(prefill, question, decode.DestinationOf(decoding->NextMessage().landing())));
  const common::v1::Destination rows = prefill.DestinationOf(filling->NextMessage().landing());
  const auto refused = [&](const std::function<void(Parcel&)>& lie) {
    Parcel parcel = Sender::RowsOf(question, dtype, 0, 0, 8);
    lie(parcel);
    return absl::IsInvalidArgument(Pictures().Send(rows, std::move(parcel)));
  };
  EXPECT_TRUE(refused([](Parcel& parcel) { parcel.label.index = 99; }));
  EXPECT_TRUE(refused([](Parcel& parcel) { parcel.label.first = 9; }));
  EXPECT_TRUE(refused([](Parcel& parcel) { parcel.label.first = 1 << 30; }));
  EXPECT_TRUE(refused([](Parcel& parcel) { parcel.label.count = 7; }));
  EXPECT_TRUE(refused([](Parcel& parcel) { parcel.label.count = 1 << 30; }));
  EXPECT_TRUE(refused([](Parcel& parcel) { parcel.label.kind = ParcelKind::kPages; }));
  EXPECT_TRUE(refused([&](Parcel& parcel) {
    parcel.label.dtype = dtype == DType::kF16 ? DType::kBF16 : DType::kF16;
  }));
  EXPECT_TRUE(Pictures().Send(rows, Sender::RowsOf(question, dtype, 0, 0, 8)).ok());
  EXPECT_TRUE(refused([](Parcel&) {}));  // they are here
  // What was refused has harmed nobody.
  EXPECT_TRUE(Pictures().Send(rows, Sender::RowsOf(question, dtype, 0, 8, 8)).ok());
  for (int64_t i = 1; i < question.prompt.spans_size(); ++i) {
    EXPECT_TRUE(Pictures().Send(rows, Sender::RowsOf(question, dtype, i, 0, 16)).ok());
  }
  EXPECT_TRUE(filling->End().ok());
  Answer answer;
  Receive(*decoding, answer);
  EXPECT_THAT(answer.tokens, ElementsAreArray(Alone::Answer(Reference(), question)));
}

TEST(PrefillServiceTest, RefusesWhatMakesNoSense) {
  EngineWorker worker("worker");
  const Question question = Questions()[1];
  common::v1::Landing landing;
  landing.set_incarnation(std::string(16, 'i'));
  landing.set_slot(1);
  common::v1::Destination destination = worker.DestinationOf(landing);
  destination.set_worker_id("another");
  const auto refusal = [&](const std::function<void(prefill::v1::PrefillPromptRequest&)>& change) {
    auto request = PrefillOf(worker, question, destination);
    change(request);
    return Open(worker, request)->End();
  };
  using Request = prefill::v1::PrefillPromptRequest;
  const auto names = [&](absl::StatusCode code, const std::string& field,
                         const std::function<void(Request&)>& change) {
    const absl::Status status = refusal(change);
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(field));
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const auto precondition = absl::StatusCode::kFailedPrecondition;
  names(precondition, "model_fingerprint", [](Request& r) { r.set_model_fingerprint("other"); });
  names(precondition, "layout_fingerprint", [](Request& r) { r.clear_layout_fingerprint(); });
  names(invalid, "scope.cache_scope",
        [](Request& r) { r.mutable_scope()->set_cache_scope(std::string(65, 's')); });
  names(invalid, "prompt.tokens", [](Request& r) { r.clear_prompt(); });
  names(invalid, "prompt.tokens[3]",
        [](Request& r) { r.mutable_prompt()->set_tokens(3, 4'000'000'000); });
  names(invalid, "prompt.prompt_tokens",
        [](Request& r) { r.mutable_prompt()->set_prompt_tokens(0); });
  names(invalid, "prompt.prompt_tokens",
        [](Request& r) { r.mutable_prompt()->set_prompt_tokens(4'000'000'000); });
  names(absl::StatusCode::kOutOfRange, "prompt.tokens", [](Request& r) {
    for (int i = 0; i < 4000; ++i) r.mutable_prompt()->add_tokens(1);
  });
  names(invalid, "prompt.spans[0].first_token",
        [](Request& r) { r.mutable_prompt()->mutable_spans(0)->set_first_token(4'294'967'295); });
  names(invalid, "prompt.spans[0].rows",
        [](Request& r) { r.mutable_prompt()->mutable_spans(0)->set_rows(4'294'967'295); });
  names(invalid, "prompt.spans[0].rows",
        [](Request& r) { r.mutable_prompt()->mutable_spans(0)->set_rows(0); });
  names(invalid, "prompt.spans[1].first_token", [](Request& r) {
    *r.mutable_prompt()->add_spans() = r.prompt().spans(0);
    *r.mutable_prompt()->mutable_spans(1) = r.prompt().spans(0);
  });
  names(invalid, "prompt.spans[0].media_digest",
        [](Request& r) { r.mutable_prompt()->mutable_spans(0)->set_media_digest("short"); });
  names(invalid, "destination.worker_id",
        [](Request& r) { r.mutable_destination()->clear_worker_id(); });
  names(invalid, "address", [](Request& r) { r.mutable_destination()->set_address("unix:/x"); });
  names(invalid, "destination.landing.incarnation",
        [](Request& r) { r.mutable_destination()->mutable_landing()->set_incarnation("x"); });
  names(invalid, "destination.landing.slot",
        [](Request& r) { r.mutable_destination()->mutable_landing()->set_slot(0); });
  names(invalid, "destination.landing.held_tokens",
        [](Request& r) { r.mutable_destination()->mutable_landing()->set_held_tokens(8); });
  names(invalid, "destination.landing.held_tokens", [](Request& r) {
    r.mutable_destination()->mutable_landing()->set_held_tokens(4'294'967'280);
  });
  names(invalid, "prompt.tokens", [](Request& r) {
    r.mutable_prompt()->clear_spans();
    r.mutable_prompt()->mutable_tokens()->Truncate(1);
    r.mutable_prompt()->set_prompt_tokens(1);
  });
  ExpectAtRest(worker);
}

TEST(PrefillServiceTest, RefusesAtOnceWhatItHasNoPagesFor) {
  EngineWorker prefill("prefill", 1, 16, /*pages=*/24), decode("decode");
  const Question first = Ask(Reference(), LongText(40), {"000-0"});  // whose rows never come
  Question second = first;
  second.cache_scope = "another";
  const auto decoding = Open(decode, DecodeOf(decode, first));
  const common::v1::Landing landing = decoding->NextMessage().landing();
  const auto filling = Open(prefill, PrefillOf(prefill, first, decode.DestinationOf(landing)));
  filling->NextMessage();
  const absl::Status end =
      Open(prefill, PrefillOf(prefill, second, decode.DestinationOf(landing)))->End();
  EXPECT_TRUE(absl::IsResourceExhausted(end)) << end;
  filling->Cancel();
  ExpectAtRest(prefill);
}

TEST(PrefillServiceTest, TakesNothingNewAndHandsBackWhatRunsWhenItDrains) {
  EngineWorker prefill("prefill"), decode("decode");
  const Question question = Questions()[1];  // whose rows never come
  const auto decoding = Open(decode, DecodeOf(decode, question));
  const common::v1::Destination destination =
      decode.DestinationOf(decoding->NextMessage().landing());
  const auto filling = Open(prefill, PrefillOf(prefill, question, destination));
  filling->NextMessage();
  prefill.worker().Drain(absl::Hours(1));
  const absl::Status late = Open(prefill, PrefillOf(prefill, question, destination))->End();
  EXPECT_TRUE(absl::IsFailedPrecondition(late)) << late;
  EXPECT_EQ(ReasonOf(late), "DRAINING");
  prefill.worker().Drain(absl::ZeroDuration());
  const absl::Status handed = filling->End();
  EXPECT_TRUE(absl::IsAborted(handed)) << handed;
  EXPECT_EQ(ReasonOf(handed), "DRAINING");
  prefill.worker().WaitUntilDrained();
  ExpectAtRest(prefill);
}

}  // namespace
}  // namespace minicpmv
