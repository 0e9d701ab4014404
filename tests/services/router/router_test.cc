#include "services/router/router.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/status_proto.h"
#include "services/router/virtual_loop.h"
#include "tests/services/router/nano_model.h"
#include "tests/services/router/scripted_workers.h"

namespace minicpmv::router {
namespace {

using common::v1::ROLE_DECODE;
using common::v1::ROLE_PREFILL;
using common::v1::ROLE_VISION;
using ::testing::ElementsAre;
using ::testing::SizeIs;

struct Stream final : FleetStream {
  void Order(const control::v1::Order& /*order*/) override {}
  void End(const absl::Status& /*status*/) override {}
};

struct Reply {
  std::vector<chat::v1::StreamReplyResponse> events;
  std::string text;
  std::vector<uint32_t> tokens;
  std::optional<absl::Status> end;
  const chat::v1::ReplyEnding& ending() const { return events.back().ending(); }
};

class Sink final : public ReplySink {
 public:
  explicit Sink(Reply& reply) : reply_(reply) {}
  void Send(chat::v1::StreamReplyResponse event) override {
    EXPECT_FALSE(reply_.end.has_value());
    reply_.text += event.text().text();
    for (const uint32_t token : event.text().tokens()) reply_.tokens.push_back(token);
    reply_.events.push_back(std::move(event));
  }
  void End(const absl::Status& status) override {
    EXPECT_FALSE(reply_.end.has_value());
    reply_.end = status;
  }

 private:
  Reply& reply_;
};

class RouterTest : public ::testing::Test {
 protected:
  RouterTest() {
    for (const char* const id : {"d1", "d2"}) Join(id, ROLE_DECODE);
    for (const char* const id : {"p1", "p2"}) Join(id, ROLE_PREFILL);
    for (const char* const id : {"v1", "v2"}) Join(id, ROLE_VISION);
  }

  void Join(const std::string& id, common::v1::Role role) {
    control::v1::WorkerHello hello;
    hello.set_worker_id(id);
    hello.set_incarnation(absl::StrCat("incarnation...", id));
    hello.set_address("host:1");
    hello.add_roles(role);
    hello.mutable_model()->set_model_fingerprint(NanoModel().fingerprint());
    hello.mutable_model()->set_layout_fingerprint(std::string(32, 'l'));
    streams_[id] = {*router_.fleet().Join(hello, stream_), role};
    Report(id);
  }
  void Report(const std::string& id) {
    control::v1::Heartbeat heartbeat;
    control::v1::WorkerLoad& load = *heartbeat.mutable_load();
    load.set_state(control::v1::WORKER_STATE_READY);
    load.mutable_pages()->set_free(1000);
    load.add_roles()->set_role(streams_[id].second);
    ASSERT_TRUE(router_.fleet().Report(streams_[id].first, heartbeat).ok());
  }
  void ReportAll() {
    for (const auto& [id, stream] : streams_) Report(id);
    Settle();
  }
  // All that can happen without time.
  void Settle() { loop_.RunFor(absl::ZeroDuration()); }

  static ChatRequest RequestOf(const std::string& text, int media = 0) {
    ChatRequest request;
    chat::v1::Message& message = *request.request.mutable_conversation()->add_messages();
    message.set_role(chat::v1::ROLE_USER);
    for (int i = 0; i < media; ++i) {
      message.add_parts()->mutable_media();
      request.media.push_back({std::string(32, static_cast<char>('a' + i)), nullptr});
    }
    message.add_parts()->set_text(text);
    request.request.mutable_options()->set_max_new_tokens(10);
    request.request.mutable_options()->mutable_sampling()->set_seed(3);
    return request;
  }
  Router::RequestNumber Ask(ChatRequest request) {
    const Router::RequestNumber number =
        router_.Start(std::move(request), std::make_unique<Sink>(reply_));
    Settle();
    return number;
  }

  void AnswerPuts(uint32_t side = 60) {
    for (auto& put : workers_.puts) {
      if (!put.is_open) continue;
      common::v1::MediaInfo info;
      info.set_kind(common::v1::MEDIA_KIND_IMAGE);
      info.set_width(side);
      info.set_height(side);
      put.told(info);
    }
    Settle();
  }
  template <typename Response>
  void Grant(const Told<Response>& told, uint32_t held = 0) {
    Response response;
    response.mutable_landing()->set_slot(++last_slot_);
    response.mutable_landing()->set_held_tokens(held);
    told(response);
    Settle();
  }
  template <typename Call>
  void End(Call& call, const absl::Status& status) {
    call.told(status);
    Settle();
  }
  void SayTokens(const std::vector<uint32_t>& tokens, uint32_t first) {
    decode::v1::DecodeSequenceResponse response;
    response.mutable_tokens()->mutable_tokens()->Add(tokens.begin(), tokens.end());
    response.mutable_tokens()->set_first_index(first);
    workers_.decodes.back().told(response);
    Settle();
  }
  void SayEnding(uint32_t tokens) {
    decode::v1::DecodeSequenceResponse response;
    response.mutable_ending()->set_reason(decode::v1::Ending::REASON_LENGTH);
    response.mutable_ending()->set_new_tokens(tokens);
    workers_.decodes.back().told(response);
    workers_.decodes.back().told(absl::OkStatus());
    Settle();
  }
  void FinishPrefill() {
    prefill::v1::PrefillPromptResponse response;
    response.mutable_done();
    workers_.prefills.back().told(response);
    workers_.prefills.back().told(absl::OkStatus());
    Settle();
  }
  // Up to the first step.
  void Open() {
    Grant(workers_.decodes.back().told);
    Grant(workers_.prefills.back().told);
  }

  static RouterOptions Options() {
    RouterOptions options;
    options.settle = absl::Seconds(5);
    options.stall_after = absl::Hours(1);
    options.random_seed = 1;
    options.failovers = 3;
    return options;
  }

  VirtualLoop loop_;
  ScriptedWorkers workers_;
  RouterWatch watch_;
  Stream stream_;
  Reply reply_;
  Router router_{Options(), NanoModel(), workers_, loop_, watch_};
  std::map<std::string, std::pair<Fleet::StreamId, common::v1::Role>> streams_;
  uint64_t last_slot_ = 0;
};

TEST_F(RouterTest, OpensDecodeThenPrefillThenVision) {
  Ask(RequestOf("What?", 1));
  ASSERT_THAT(workers_.puts, SizeIs(1));
  EXPECT_TRUE(workers_.decodes.empty());
  AnswerPuts();
  ASSERT_THAT(workers_.decodes, SizeIs(1));
  EXPECT_TRUE(workers_.prefills.empty());
  Grant(workers_.decodes.back().told, 16);
  ASSERT_THAT(workers_.prefills, SizeIs(1));
  const auto& prefill = workers_.prefills.back().request;
  EXPECT_EQ(prefill.destination().worker_id(), workers_.decodes.back().worker.id);
  EXPECT_EQ(prefill.destination().landing().slot(), 1u);
  EXPECT_EQ(prefill.destination().landing().held_tokens(), 16u);
  EXPECT_TRUE(workers_.encodes.empty());
  Grant(workers_.prefills.back().told);
  ASSERT_THAT(workers_.encodes, SizeIs(1));
  const auto& encode = workers_.encodes.back();
  EXPECT_EQ(encode.worker.id, workers_.puts.back().worker.id);
  EXPECT_TRUE(encode.request.has_held());
  EXPECT_EQ(encode.request.destination().landing().slot(), 2u);

  SayTokens({65, 66}, 0);
  SayTokens({67}, 2);
  SayEnding(3);
  loop_.RunFor(absl::Seconds(1));  // no bill comes from the others
  ASSERT_TRUE(reply_.end.has_value());
  EXPECT_TRUE(reply_.end->ok()) << *reply_.end;
  EXPECT_THAT(reply_.tokens, ElementsAre(65, 66, 67));
  EXPECT_EQ(reply_.ending().finish_reason(), chat::v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(reply_.ending().usage().completion_tokens(), 3u);
  EXPECT_EQ(workers_.open(), 0);
  EXPECT_EQ(router_.requests(), 0u);
}

TEST_F(RouterTest, NeedsNoPrefillWhereDecodeHoldsThePrompt) {
  Ask(RequestOf("Hello"));
  const auto tokens = workers_.decodes.back().request.prompt().prompt_tokens();
  Grant(workers_.decodes.back().told, tokens - 1);
  EXPECT_TRUE(workers_.prefills.empty());
  SayTokens({65}, 0);
  SayEnding(1);
  EXPECT_TRUE(reply_.end.has_value());
  EXPECT_EQ(reply_.ending().usage().cached_tokens(), tokens - 1);
}

TEST_F(RouterTest, EncodesOnlyWhatLiesBeyondWhatPrefillHolds) {
  Ask(RequestOf("What?", 2));
  AnswerPuts();
  Grant(workers_.decodes.back().told);
  const common::v1::Prompt& prompt = workers_.prefills.back().request.prompt();
  ASSERT_EQ(prompt.spans_size(), 2);
  Grant(workers_.prefills.back().told, prompt.spans(0).first_token() + prompt.spans(0).rows());
  ASSERT_THAT(workers_.encodes, SizeIs(1));
  ASSERT_EQ(workers_.encodes.back().request.spans_size(), 1);
  EXPECT_EQ(workers_.encodes.back().request.spans(0).index(), 1u);
}

TEST_F(RouterTest, OpensHelpersBeforeTheHomeAndDoesWithoutWhoRefuses) {
  Ask(RequestOf("What?", 1));
  AnswerPuts(300);
  Grant(workers_.decodes.back().told);
  Grant(workers_.prefills.back().told);
  ASSERT_THAT(workers_.encodes, SizeIs(1));
  const auto& helper = workers_.encodes.front();
  EXPECT_TRUE(helper.request.has_arriving());
  EXPECT_NE(helper.worker.id, workers_.puts.back().worker.id);
  const int spans = workers_.prefills.back().request.prompt().spans_size();
  const int of_helper = helper.request.spans_size();
  Grant(helper.told);
  ASSERT_THAT(workers_.encodes, SizeIs(2));
  const vision::v1::EncodeMediaRequest& home = workers_.encodes.back().request;
  EXPECT_EQ(home.spans_size() + of_helper, spans);
  ASSERT_EQ(home.held().helpers_size(), 1);
  EXPECT_EQ(home.held().helpers(0).destination().landing().slot(), last_slot_);
  EXPECT_EQ(home.held().helpers(0).spans_size(), of_helper);

  // Another request, whose helper has no room.
  ChatRequest other = RequestOf("Who?", 1);
  other.cache_scope = "other";
  Ask(std::move(other));
  AnswerPuts(300);
  Grant(workers_.decodes.back().told);
  Grant(workers_.prefills.back().told);
  ASSERT_THAT(workers_.encodes, SizeIs(3));
  End(workers_.encodes.back(), absl::ResourceExhaustedError("full"));
  ASSERT_THAT(workers_.encodes, SizeIs(4));
  EXPECT_EQ(workers_.encodes.back().request.spans_size(), spans);
}

TEST_F(RouterTest, ClosesBothCallsAndKeepsItsPlaceWhenPrefillRefuses) {
  Ask(RequestOf("Hello"));
  Grant(workers_.decodes.back().told);
  const std::string refused = workers_.prefills.back().worker.id;
  End(workers_.prefills.back(), absl::ResourceExhaustedError("no pages now"));
  ASSERT_THAT(workers_.decodes, SizeIs(2));  // at once, as the other prefill worker has room
  EXPECT_EQ(workers_.open(), 1);
  Grant(workers_.decodes.back().told);
  EXPECT_NE(workers_.prefills.back().worker.id, refused);
  End(workers_.prefills.back(), absl::ResourceExhaustedError("no pages now"));
  EXPECT_EQ(workers_.open(), 0);  // what waits holds nothing
  loop_.RunFor(absl::Seconds(1));
  EXPECT_THAT(workers_.decodes, SizeIs(2));
  ReportAll();
  ASSERT_THAT(workers_.decodes, SizeIs(3));
  Open();
  SayTokens({65}, 0);
  FinishPrefill();
  SayEnding(1);
  ASSERT_TRUE(reply_.end.has_value());
  EXPECT_TRUE(reply_.end->ok());
  EXPECT_EQ(reply_.ending().bill().failovers(), 0u);
}

TEST_F(RouterTest, AsksAVisionWorkerThatRefusesSlowerAndSlower) {
  Ask(RequestOf("What?", 1));
  AnswerPuts();
  for (int i = 0; i < 5; ++i) {
    Open();
    End(workers_.encodes.back(), absl::ResourceExhaustedError("enough to do"));
    ReportAll();
    EXPECT_EQ(workers_.open(), i == 0 ? 1 : 0);
    loop_.RunFor(absl::Seconds(1));
    ASSERT_THAT(workers_.decodes, SizeIs(i + 2));
  }
  EXPECT_FALSE(reply_.end.has_value());
}

TEST_F(RouterTest, GoesOnElsewhereWithTheTokensSoFar) {
  Ask(RequestOf("Hello"));
  Open();
  SayTokens({65, 66}, 0);
  const WorkerName first = workers_.decodes.back().worker;
  const uint32_t prompt_tokens = workers_.decodes.back().request.prompt().prompt_tokens();
  router_.fleet().Leave(streams_[first.id].first);
  Settle();
  ASSERT_THAT(workers_.decodes, SizeIs(2));
  const auto& again = workers_.decodes.back();
  EXPECT_NE(again.worker.id, first.id);
  EXPECT_EQ(again.request.prompt().prompt_tokens(), prompt_tokens);
  ASSERT_EQ(again.request.prompt().tokens_size(), static_cast<int>(prompt_tokens) + 2);
  EXPECT_EQ(again.request.prompt().tokens(static_cast<int>(prompt_tokens) + 1), 66u);
  EXPECT_EQ(again.request.sampling().seed(), 3u);
  EXPECT_EQ(again.request.limits().max_new_tokens(), 10u);
  EXPECT_EQ(workers_.open(), 1);
  Open();
  FinishPrefill();
  SayTokens({67}, 2);
  SayEnding(3);
  ASSERT_TRUE(reply_.end.has_value());
  EXPECT_THAT(reply_.tokens, ElementsAre(65, 66, 67));
  for (size_t i = 0; i < reply_.events.size(); ++i) {
    EXPECT_EQ(reply_.events[i].sequence(), i + 1);
  }
  EXPECT_EQ(reply_.ending().bill().failovers(), 1u);
}

TEST_F(RouterTest, LeavesBothEndsOfALinkThatIsBroken) {
  Ask(RequestOf("Hello"));
  Grant(workers_.decodes.back().told);
  Grant(workers_.prefills.back().told);
  const std::string decode = workers_.decodes.back().worker.id;
  const std::string prefill = workers_.prefills.back().worker.id;
  End(workers_.prefills.back(), absl::UnavailableError("pages did not land"));
  loop_.RunFor(absl::Seconds(1));
  EXPECT_NE(workers_.decodes.back().worker.id, decode);
  Grant(workers_.decodes.back().told);
  EXPECT_NE(workers_.prefills.back().worker.id, prefill);
}

TEST_F(RouterTest, LeavesAPrefillWorkerThatVisionCannotReach) {
  Ask(RequestOf("Look", 1));
  AnswerPuts();
  Grant(workers_.decodes.back().told);
  Grant(workers_.prefills.back().told);
  ASSERT_FALSE(workers_.encodes.empty());
  const std::string first = workers_.prefills.back().worker.id;
  End(workers_.encodes.back(), absl::UnavailableError("rows did not land"));
  loop_.RunFor(absl::Seconds(1));
  AnswerPuts();
  Grant(workers_.decodes.back().told);
  EXPECT_NE(workers_.prefills.back().worker.id, first);
}

TEST_F(RouterTest, ComesAgainAfterPreemptionThoughItHappensOften) {
  Ask(RequestOf("Hello"));
  for (uint32_t i = 0; i < 8; ++i) {
    ASSERT_THAT(workers_.decodes, SizeIs(i + 1));
    Open();
    SayTokens({65 + i}, i);
    End(workers_.decodes.back(), WithReason(absl::AbortedError("preempted"), "PREEMPTED"));
    ReportAll();
    loop_.RunFor(absl::Seconds(1));
  }
  EXPECT_FALSE(reply_.end.has_value());
  EXPECT_THAT(reply_.tokens, SizeIs(8));
}

TEST_F(RouterTest, NeedsNoWorkerForAReplyThatLacksOnlyItsEnding) {
  Ask(RequestOf("Hello"));
  Open();
  SayTokens({65, static_cast<uint32_t>(NanoModel().prompts().stop_ids()[0])}, 0);
  End(workers_.decodes.back(), absl::UnavailableError("gone"));
  ASSERT_TRUE(reply_.end.has_value());
  EXPECT_TRUE(reply_.end->ok()) << *reply_.end;
  EXPECT_EQ(reply_.ending().finish_reason(), chat::v1::FINISH_REASON_STOP);
  EXPECT_THAT(workers_.decodes, SizeIs(1));
}

TEST_F(RouterTest, PutsAMediumAgainThatItsHomeHasDropped) {
  Ask(RequestOf("What?", 1));
  AnswerPuts();
  Open();
  End(workers_.encodes.back(), absl::NotFoundError("dropped"));
  ASSERT_THAT(workers_.puts, SizeIs(2));
  EXPECT_EQ(workers_.puts.back().worker.id, workers_.puts.front().worker.id);
  EXPECT_EQ(workers_.open(), 1);
  AnswerPuts();
  EXPECT_THAT(workers_.decodes, SizeIs(2));
}

TEST_F(RouterTest, PutsAMediumElsewhereWhenItsHomeIsLost) {
  Ask(RequestOf("What?", 1));
  const std::string home = workers_.puts.back().worker.id;
  router_.fleet().Leave(streams_[home].first);
  Settle();
  ASSERT_THAT(workers_.puts, SizeIs(2));
  EXPECT_NE(workers_.puts.back().worker.id, home);
  AnswerPuts();
  EXPECT_THAT(workers_.decodes, SizeIs(1));
}

TEST_F(RouterTest, BlamesTheMediumThatCannotBeRead) {
  Ask(RequestOf("What?", 1));
  End(workers_.puts.back(), absl::InvalidArgumentError("is no picture"));
  ASSERT_TRUE(reply_.end.has_value());
  EXPECT_TRUE(absl::IsInvalidArgument(*reply_.end));
  EXPECT_EQ(reply_.end->message(), "conversation.messages[0].parts[0].media: is no picture");
  EXPECT_TRUE(reply_.events.empty());
  EXPECT_EQ(workers_.open(), 0);
}

TEST_F(RouterTest, PutsAMediumOnceThoughItIsShownTwice) {
  ChatRequest request = RequestOf("What?", 2);
  request.media[1].digest = request.media[0].digest;
  Ask(std::move(request));
  EXPECT_THAT(workers_.puts, SizeIs(1));
  AnswerPuts();
  Grant(workers_.decodes.back().told);
  Grant(workers_.prefills.back().told);
  int spans = 0;
  for (const auto& encode : workers_.encodes) spans += encode.request.spans_size();
  EXPECT_GE(spans, 1);
}

TEST_F(RouterTest, ClosesEveryCallWhenTheClientGoesWhereverItStands) {
  for (int stage = 0; stage < 5; ++stage) {
    const Router::RequestNumber number = Ask(RequestOf("What?", 1));
    if (stage >= 1) AnswerPuts();
    if (stage >= 2) Grant(workers_.decodes.back().told);
    if (stage >= 3) Grant(workers_.prefills.back().told);
    if (stage >= 4) SayTokens({65}, 0);
    EXPECT_GT(workers_.open(), 0) << stage;
    router_.Cancel(number);
    EXPECT_EQ(workers_.open(), 0) << stage;
    EXPECT_EQ(router_.requests(), 0u);
    router_.Cancel(number);
    Settle();
  }
  EXPECT_FALSE(reply_.end.has_value());
}

TEST_F(RouterTest, EndsAtTheDeadlineWhereverItStands) {
  for (int stage = 0; stage < 4; ++stage) {
    reply_ = {};
    ChatRequest request = RequestOf("What?", 1);
    request.deadline = loop_.Now() + absl::Seconds(1);
    Ask(std::move(request));
    if (stage >= 1) AnswerPuts();
    if (stage >= 2) Grant(workers_.decodes.back().told);
    if (stage >= 3) Grant(workers_.prefills.back().told);
    loop_.RunFor(absl::Milliseconds(999));
    EXPECT_FALSE(reply_.end.has_value());
    loop_.RunFor(absl::Milliseconds(1));
    ASSERT_TRUE(reply_.end.has_value());
    EXPECT_TRUE(absl::IsDeadlineExceeded(*reply_.end));
    EXPECT_EQ(workers_.open(), 0);
  }
}

TEST_F(RouterTest, EndsAtAStopTextOfWhichNoWorkerKnows) {
  ChatRequest request = RequestOf("Hello");
  request.request.mutable_options()->add_stop("B");
  const auto a = *NanoModel().tokenizer().Encode("A", Tags::kText);
  const auto b = *NanoModel().tokenizer().Encode("B", Tags::kText);
  Ask(std::move(request));
  Open();
  FinishPrefill();
  SayTokens({static_cast<uint32_t>(a[0]), static_cast<uint32_t>(b[0]), 70}, 0);
  ASSERT_TRUE(reply_.end.has_value());
  EXPECT_EQ(reply_.text, "A");
  EXPECT_EQ(reply_.ending().finish_reason(), chat::v1::FINISH_REASON_STOP);
  EXPECT_EQ(reply_.ending().usage().completion_tokens(), 2u);
  EXPECT_EQ(workers_.open(), 0);
}

TEST_F(RouterTest, TrustsNoWorkerThatLosesCountOfTokens) {
  Ask(RequestOf("Hello"));
  Open();
  SayTokens({65}, 1);
  EXPECT_TRUE(reply_.tokens.empty());
  ASSERT_THAT(workers_.decodes, SizeIs(2));
  Open();
  SayTokens({1u << 30}, 0);
  loop_.RunFor(absl::Seconds(1));
  EXPECT_TRUE(reply_.tokens.empty());
  EXPECT_THAT(workers_.decodes, SizeIs(3));
}

TEST_F(RouterTest, TakesAWorkerThatNeverAnswersForLost) {
  Ask(RequestOf("Hello"));
  const std::string silent = workers_.decodes.back().worker.id;
  loop_.RunFor(absl::Hours(1) + absl::Seconds(1));
  EXPECT_THAT(workers_.decodes, SizeIs(1));
  ReportAll();
  loop_.RunFor(absl::Seconds(10));
  ASSERT_THAT(workers_.decodes, SizeIs(2));
  EXPECT_NE(workers_.decodes.back().worker.id, silent);
}

TEST_F(RouterTest, GivesUpWhenWorkersFailAgainAndAgain) {
  Ask(RequestOf("Hello"));
  for (int i = 0; i < 4; ++i) {
    ASSERT_FALSE(reply_.end.has_value());
    End(workers_.decodes.back(), absl::InternalError("broken"));
    loop_.RunFor(absl::Seconds(2));
  }
  ASSERT_TRUE(reply_.end.has_value());
  EXPECT_TRUE(absl::IsUnavailable(*reply_.end)) << *reply_.end;
  EXPECT_EQ(workers_.open(), 0);
}

TEST_F(RouterTest, PassesOnWhatTheRequestItselfIsToBlameFor) {
  Ask(RequestOf("Hello"));
  End(workers_.decodes.back(), absl::InvalidArgumentError("sampling.top_p is 7"));
  ASSERT_TRUE(reply_.end.has_value());
  EXPECT_TRUE(absl::IsInvalidArgument(*reply_.end));
  EXPECT_THAT(workers_.decodes, SizeIs(1));
}

TEST_F(RouterTest, RefusesAnotherModel) {
  ChatRequest request = RequestOf("Hello");
  request.request.set_model("other");
  Ask(std::move(request));
  ASSERT_TRUE(reply_.end.has_value());
  EXPECT_TRUE(absl::IsNotFound(*reply_.end));
}

TEST_F(RouterTest, WaitsForAMissingRoleAndThenRefuses) {
  for (const char* const id : {"v1", "v2"}) router_.fleet().Leave(streams_[id].first);
  Ask(RequestOf("What?", 1));
  loop_.RunFor(absl::Seconds(4));
  EXPECT_FALSE(reply_.end.has_value());
  loop_.RunFor(absl::Seconds(2));
  ASSERT_TRUE(reply_.end.has_value());
  EXPECT_TRUE(absl::IsUnavailable(*reply_.end)) << *reply_.end;
  EXPECT_EQ(ReasonOf(*reply_.end), "ROLE_MISSING");

  reply_ = {};
  Ask(RequestOf("Hello"));  // needs none
  EXPECT_EQ(workers_.open(), 1);
}

TEST_F(RouterTest, ServesWhoWaitedForARoleWhenItComes) {
  for (const char* const id : {"v1", "v2"}) router_.fleet().Leave(streams_[id].first);
  Ask(RequestOf("What?", 1));
  EXPECT_TRUE(workers_.puts.empty());
  loop_.RunFor(absl::Seconds(3));
  Join("v3", ROLE_VISION);
  Settle();
  ASSERT_THAT(workers_.puts, SizeIs(1));
  EXPECT_EQ(workers_.puts.back().worker.id, "v3");
}

TEST_F(RouterTest, ResumesFromTheTokensThatAClientHas) {
  ChatRequest request = RequestOf("Hello");
  chat::v1::Resume& resume = *request.request.mutable_resume();
  for (const uint32_t token : {65u, 66u}) resume.add_tokens(token);
  resume.set_sequence(3);
  resume.set_seed(77);
  resume.set_request_id("theirs");
  Ask(std::move(request));
  const auto& decode = workers_.decodes.back().request;
  EXPECT_EQ(decode.scope().request_id(), "theirs");
  EXPECT_EQ(decode.sampling().seed(), 77u);
  EXPECT_EQ(decode.prompt().tokens_size(), static_cast<int>(decode.prompt().prompt_tokens()) + 2);
  Open();
  SayTokens({67}, 2);
  ASSERT_GE(reply_.events.size(), 2u);
  EXPECT_EQ(reply_.events[0].sequence(), 4u);
  EXPECT_TRUE(reply_.events[0].has_start());
  EXPECT_EQ(reply_.events[0].start().seed(), 77u);
  EXPECT_THAT(reply_.tokens, ElementsAre(67));
}

TEST_F(RouterTest, AsksNobodyForAReplyThatAClientHasWhole) {
  ChatRequest request = RequestOf("Hello");
  chat::v1::Resume& resume = *request.request.mutable_resume();
  for (uint32_t i = 0; i < 10; ++i) resume.add_tokens(65);
  resume.set_text_bytes(10'000);
  resume.set_sequence(11);
  Ask(std::move(request));
  ASSERT_TRUE(reply_.end.has_value());
  EXPECT_TRUE(reply_.end->ok());
  EXPECT_EQ(reply_.ending().finish_reason(), chat::v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(reply_.events.back().sequence(), 13u);
  EXPECT_EQ(reply_.text, "");
  EXPECT_TRUE(workers_.decodes.empty());
}

TEST_F(RouterTest, GivesUpWhatRunsWhenItEnds) {
  Reply reply;
  {
    ScriptedWorkers workers;
    Router router(Options(), NanoModel(), workers, loop_, watch_);
    router.Start(RequestOf("Hello"), std::make_unique<Sink>(reply));
    Settle();
  }
  Settle();
  EXPECT_FALSE(reply.end.has_value());
}

}  // namespace
}  // namespace minicpmv::router
