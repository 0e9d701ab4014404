// The router as it is, over workers that are made up, on a virtual clock: every run is one number.
//
//   MINICPMV_SIMULATION_REQUESTS=100000 MINICPMV_SIMULATION_SEED=7 services_router_test
//       --gtest_filter=SimulationTest.*

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "runtime/text/reply_text.h"
#include "services/common/read_prompt.h"
#include "services/common/status_proto.h"
#include "services/router/reply_settings.h"
#include "services/router/request_plan.h"
#include "services/router/router.h"
#include "services/router/stable_hash.h"
#include "services/router/virtual_loop.h"
#include "tests/services/router/fake_model.h"
#include "tests/services/router/nano_model.h"
#include "tests/services/router/simulated_fleet.h"

namespace minicpmv::router {
namespace {

constexpr size_t kQueueLimit = 200;

// How much comes, and how little room there is.
struct Load {
  absl::Duration between;  // arrivals, on average
  int64_t pages;           // of each process
  bool is_disturbed = true;
  // One request of very many pictures comes so often besides.
  absl::Duration albums = absl::InfiniteDuration();
};
constexpr Load kLoads[] = {{absl::Milliseconds(25), 400},  // all fits
                           {absl::Milliseconds(7), 400},   // more than can be answered
                           {absl::Milliseconds(25), 45}};  // room for a few long prompts

const RouterModel& Model() { return NanoModel(); }

constexpr absl::string_view kMedium = "medium ", kSmallMedium = "small ";

std::string DigestNumber(absl::string_view kind, uint64_t number) {
  std::string digest = absl::StrCat(kind, number);
  digest.resize(32, '.');
  return digest;
}

common::v1::MediaInfo InfoOf(const std::string& digest) {
  const uint64_t shape = StableHash().Add(digest).value();
  common::v1::MediaInfo info;
  info.set_kind(common::v1::MEDIA_KIND_IMAGE);
  info.set_format("png");
  const bool is_small = absl::StartsWith(digest, kSmallMedium);
  info.set_width(40 + (is_small ? 0 : shape % 300));
  info.set_height(40 + (is_small ? 0 : (shape >> 20) % 300));
  info.set_stored_width(info.width());
  info.set_stored_height(info.height());
  return info;
}

// What a fake model that nobody disturbs says.
struct Expected {
  std::vector<uint32_t> tokens;
  std::string text;
  chat::v1::FinishReason reason = chat::v1::FINISH_REASON_LENGTH;
};

Expected ExpectedOf(const ChatRequest& request) {
  std::vector<common::v1::MediaInfo> infos;
  for (const RequestMedium& medium : request.media) infos.push_back(InfoOf(medium.digest));
  const RequestPlan plan = *PlanRequest(request, infos, Model());
  const chat::v1::ReplyOptions& options = request.request.options();
  const decode::v1::Limits limits = LimitsOf(options, Model(), plan.prompt.tokens_size());
  const std::vector<int32_t>& stops = Model().prompts().stop_ids();
  ReplyText text = *ReplyText::Create(Model().tokenizer(), TextOf(options, Model()));
  Expected expected;
  const auto vocabulary = static_cast<uint32_t>(Model().spec().language.vocabulary);
  const PromptParts parts = *ReadPrompt(plan.prompt, vocabulary, 1 << 20);
  FakeAttention attention;
  for (const uint64_t input : FakeInputs(parts.tokens, parts.spans)) {
    attention.See(attention.CellOf(input));
  }
  while (expected.tokens.size() < limits.max_new_tokens()) {
    const uint32_t token = attention.Choose(options.sampling().seed(), stops, vocabulary);
    attention.See(attention.CellOf(token));
    expected.tokens.push_back(token);
    if (static_cast<int32_t>(token) == stops.front()) {
      expected.reason = chat::v1::FINISH_REASON_STOP;
      break;
    }
    absl::StrAppend(&expected.text, text.Push(static_cast<int32_t>(token)));
    if (text.stopped()) {
      expected.reason = chat::v1::FINISH_REASON_STOP;
      break;
    }
  }
  absl::StrAppend(&expected.text, text.Finish());
  return expected;
}

// A request's kind is how many pictures it has: none, one or a few, an album.
enum Kind : size_t { kText, kPictures, kAlbum };
constexpr uint64_t kAlbumPictures = 40;

struct KindCounts {
  int64_t arrived = 0, complete = 0;
  absl::Duration longest;
  std::vector<absl::Duration> first_text;  // from the arrival on
};

struct Counts {
  int64_t complete = 0, cancelled = 0, expired = 0, refused = 0, unavailable = 0, resumed = 0;
  uint64_t failovers = 0;
  std::array<KindCounts, 3> kinds;
  uint64_t hash = 0;
};

void Add(const KindCounts& counts, KindCounts& sum) {
  sum.arrived += counts.arrived;
  sum.complete += counts.complete;
  sum.longest = std::max(sum.longest, counts.longest);
  sum.first_text.insert(sum.first_text.end(), counts.first_text.begin(), counts.first_text.end());
}

absl::Duration P99(std::vector<absl::Duration> values) {
  const auto place = values.begin() + static_cast<int64_t>(values.size() * 99 / 100);
  std::nth_element(values.begin(), place, values.end());
  return *place;
}

class Simulation {
 public:
  Simulation(uint64_t seed, int64_t requests)
      : Simulation(seed, requests, kLoads[seed % std::size(kLoads)]) {}
  Simulation(uint64_t seed, int64_t requests, const Load& load)
      : requests_(requests),
        load_(load),
        random_(seed),
        fleet_(FleetOptionsOf(load_), loop_, seed + 1),
        router_(RouterOptionsOf(seed), Model(), fleet_, loop_, watch_) {}
  ~Simulation() { fleet_.Leave(); }

  // Every invariant is looked at on the way and in the end.
  Counts Run() {
    fleet_.Join(router_.fleet());
    NextArrival();
    NextAlbum();
    if (load_.is_disturbed) NextEvent();
    const absl::Time limit = loop_.Now() + absl::Hours(24 * 30);
    while ((arrived_ < requests_ || !clients_.empty()) && loop_.RunOne(limit)) {
      if (router_.waiting() > kQueueLimit) Fail("the queue is over its bound");
      if (loop_.Now() >= limit || !failure_.empty()) break;
    }
    if (!clients_.empty() && failure_.empty()) Fail("a request never ends");
    fleet_.Calm();
    event_ = nullptr;
    loop_.RunFor(absl::Seconds(60));
    if (router_.requests() != 0) Fail("the router still has requests");
    if (fleet_.open_calls() != 0) Fail(absl::StrCat(fleet_.open_calls(), " calls are left open"));
    const SimulatedFleet::Held held = fleet_.held();
    if (held.pages != 0) Fail(absl::StrCat(held.pages, " pages are held"));
    if (held.sequences != 0) Fail(absl::StrCat(held.sequences, " sequences are left"));
    if (held.landings != 0) Fail(absl::StrCat(held.landings, " landings are left open"));
    for (const std::string& words : fleet_.complaints()) Fail(absl::StrCat("a worker: ", words));
    return counts_;
  }

  const std::string& failure() const { return failure_; }
  const SimulatedFleet::Seen& seen() const { return fleet_.seen(); }

 private:
  struct Client {
    ChatRequest request;
    Expected expected;
    absl::Time start;
    Router::RequestNumber number = 0;
    Kind kind() const {
      return request.media.empty()                   ? kText
             : request.media.size() < kAlbumPictures ? kPictures
                                                     : kAlbum;
    }

    uint64_t sequence = 0;
    bool has_start = false, has_ending = false;
    std::string request_id;
    std::string text;
    std::vector<uint32_t> tokens;
    std::unique_ptr<Loop::Alarm> leaves;  // when it goes, or its connection breaks
  };

  class Sink final : public ReplySink {
   public:
    Sink(Simulation& simulation, int64_t client) : simulation_(simulation), client_(client) {}
    void Send(chat::v1::StreamReplyResponse event) override { simulation_.OnEvent(client_, event); }
    void End(const absl::Status& status) override { simulation_.OnEnd(client_, status); }

   private:
    Simulation& simulation_;
    const int64_t client_;
  };

  static SimulatedFleet::Options FleetOptionsOf(const Load& load) {
    SimulatedFleet::Options options;
    options.pages = load.pages;
    options.stops = Model().prompts().stop_ids();
    options.vocabulary = static_cast<uint32_t>(Model().spec().language.vocabulary);
    options.model_fingerprint = Model().fingerprint();
    options.media = InfoOf;
    if (!load.is_disturbed) options.refuses = options.fails = options.forgets_media = 0;
    return options;
  }
  static RouterOptions RouterOptionsOf(uint64_t seed) {
    RouterOptions options;
    options.queue_limit = kQueueLimit;
    options.tenant_limit = kQueueLimit / 2;
    options.stall_after = absl::Seconds(1);
    options.settle = absl::Seconds(20);
    options.random_seed = seed;
    return options;
  }

  uint64_t Draw(uint64_t below) { return random_() % below; }
  absl::Duration Exponential(absl::Duration mean) {
    return mean * std::exponential_distribution<double>(1)(random_);
  }
  void Fail(std::string words) {
    if (failure_.empty()) failure_ = std::move(words);
  }

  void NextArrival() {
    if (arrived_ >= requests_) {
      arrival_ = nullptr;
      return;
    }
    arrival_ = loop_.At(loop_.Now() + Exponential(load_.between), [this] {
      // Now and then many come at once.
      const uint64_t burst = load_.is_disturbed && Draw(2000) == 0 ? kQueueLimit + 100 : 1;
      for (uint64_t i = 0; i < burst && arrived_ < requests_; ++i) Arrive(MakeRequest());
      NextArrival();
    });
  }

  void NextAlbum() {
    if (load_.albums == absl::InfiniteDuration()) return;
    album_ = loop_.At(loop_.Now() + load_.albums, [this] {
      if (arrived_ >= requests_) return;
      ChatRequest request;
      chat::v1::Message& message = *request.request.mutable_conversation()->add_messages();
      message.set_role(chat::v1::ROLE_USER);
      for (uint64_t i = 0; i < kAlbumPictures; ++i) {
        message.add_parts()->mutable_media();
        request.media.push_back({DigestNumber(kSmallMedium, random_()), nullptr});
      }
      message.add_parts()->set_text("Which are alike?");
      chat::v1::ReplyOptions& options = *request.request.mutable_options();
      options.set_max_new_tokens(8);
      options.mutable_sampling()->set_seed(Draw(1000));
      Arrive(std::move(request));
      NextAlbum();
    });
  }

  void NextEvent() {
    event_ = loop_.At(loop_.Now() + Exponential(absl::Seconds(1)), [this] {
      switch (Draw(12)) {
        case 0:
        case 1:
          fleet_.Kill();
          break;
        case 2:
          fleet_.Drain();
          break;
        case 3:
          fleet_.BreakStream();
          break;
        case 4:
        case 5:
        case 6:
          fleet_.Press();
          break;
        case 7:
          fleet_.BreakDevice();
          break;
        default:
          fleet_.Freeze(Exponential(absl::Seconds(1)));
      }
      NextEvent();
    });
  }

  ChatRequest MakeRequest() {
    static const char* const kTexts[] = {"Hello", "What do you see?", "Which colour is it?",
                                         "Tell me a long story about a small dog, please.", "1+1"};
    ChatRequest request;
    request.cache_scope = absl::StrCat("tenant ", Draw(4));
    chat::v1::Conversation& conversation = *request.request.mutable_conversation();
    const uint64_t turns = Draw(3);
    for (uint64_t i = 0; i <= 2 * turns; ++i) {
      chat::v1::Message& message = *conversation.add_messages();
      message.set_role(i % 2 == 0 ? chat::v1::ROLE_USER : chat::v1::ROLE_ASSISTANT);
      const uint64_t media = i == 0 && Draw(3) == 0 ? 1 + Draw(3) : 0;
      for (uint64_t j = 0; j < media; ++j) {
        message.add_parts()->mutable_media();
        request.media.push_back({DigestNumber(kMedium, Draw(60)), nullptr});
      }
      message.add_parts()->set_text(kTexts[Draw(std::size(kTexts))]);
    }
    chat::v1::ReplyOptions& options = *request.request.mutable_options();
    options.set_max_new_tokens(static_cast<uint32_t>(1 + Draw(Draw(10) == 0 ? 200 : 40)));
    options.mutable_sampling()->set_seed(Draw(1000));
    if (Draw(10) == 0) options.add_stop(std::string(1, static_cast<char>('a' + Draw(26))));
    if (Draw(20) == 0) {
      request.deadline = loop_.Now() + absl::Milliseconds(1) + Exponential(absl::Seconds(1));
    }
    return request;
  }

  void Arrive(ChatRequest request) {
    const int64_t id = arrived_++;
    Client& client = clients_[id];
    client.request = std::move(request);
    ++counts_.kinds[client.kind()].arrived;
    client.expected = ExpectedOf(client.request);
    client.start = loop_.Now();
    Ask(id);
  }

  void Ask(int64_t id) {
    Client& client = clients_[id];
    ChatRequest request = client.request;
    if (client.has_start) {
      chat::v1::Resume& resume = *request.request.mutable_resume();
      resume.mutable_tokens()->Add(client.tokens.begin(), client.tokens.end());
      resume.set_text_bytes(client.text.size());
      resume.set_sequence(client.sequence);
      resume.set_seed(request.request.options().sampling().seed());
      resume.set_request_id(client.request_id);
    }
    client.number = router_.Start(std::move(request), std::make_unique<Sink>(*this, id));
    const uint64_t fate = Draw(12);
    if (fate > 1 || !load_.is_disturbed) return;
    client.leaves = loop_.At(loop_.Now() + Exponential(absl::Milliseconds(400)),
                             [this, id, fate] { fate == 0 ? Go(id) : Resume(id); });
  }

  // The client has gone for good.
  void Go(int64_t id) {
    router_.Cancel(clients_[id].number);
    ++counts_.cancelled;
    clients_.erase(id);
  }

  // Its connection broke, and it asks to go on.
  void Resume(int64_t id) {
    router_.Cancel(clients_[id].number);
    ++counts_.resumed;
    Ask(id);
  }

  void OnEvent(int64_t id, const chat::v1::StreamReplyResponse& event) {
    const auto found = clients_.find(id);
    if (found == clients_.end()) return Fail("an event after the end");
    Client& client = found->second;
    if (event.sequence() != client.sequence + 1) Fail("sequence numbers with a gap");
    client.sequence = event.sequence();
    if (client.has_ending) Fail("an event after the ending");
    if (event.has_start()) {
      if (client.has_start && event.start().request_id() != client.request_id) {
        Fail("another request id after a resumption");
      }
      client.request_id = event.start().request_id();
      client.has_start = true;
    } else if (!client.has_start) {
      Fail("a reply without a start");
    }
    if (client.tokens.empty() && !event.text().tokens().empty()) {
      counts_.kinds[client.kind()].first_text.push_back(loop_.Now() - client.start);
    }
    client.text += event.text().text();
    client.tokens.insert(client.tokens.end(), event.text().tokens().begin(),
                         event.text().tokens().end());
    if (event.has_ending()) {
      client.has_ending = true;
      counts_.failovers += event.ending().bill().failovers();
      if (event.ending().finish_reason() != client.expected.reason) Fail("another finish reason");
      if (event.ending().usage().completion_tokens() != client.tokens.size()) {
        Fail("another number of tokens than were sent");
      }
    }
  }

  void OnEnd(int64_t id, const absl::Status& status) {
    const auto found = clients_.find(id);
    if (found == clients_.end()) return Fail("a second end");
    const Client& client = found->second;
    KindCounts& kind = counts_.kinds[client.kind()];
    kind.longest = std::max(kind.longest, loop_.Now() - client.start);
    counts_.hash = StableHash()
                       .Add(counts_.hash)
                       .Add(static_cast<uint64_t>(id))
                       .Add(client.text)
                       .Add(static_cast<uint64_t>(absl::ToUnixNanos(loop_.Now())))
                       .value();
    if (status.ok()) {
      ++counts_.complete;
      ++kind.complete;
      if (!client.has_ending) Fail("OK without an ending");
      if (client.tokens != client.expected.tokens) Fail("other tokens than undisturbed");
      if (client.text != client.expected.text) Fail("another text than undisturbed");
    } else if (absl::IsDeadlineExceeded(status)) {
      ++counts_.expired;
      if (loop_.Now() < client.request.deadline) Fail("expired too early");
    } else if (absl::IsResourceExhausted(status)) {
      ++counts_.refused;
      if (!RetryAfterOf(status)) Fail("refused without a time to come again");
    } else if (absl::IsUnavailable(status)) {
      ++counts_.unavailable;
    } else {
      Fail(absl::StrCat("ended with ", status.ToString()));
    }
    clients_.erase(found);
  }

  const int64_t requests_;
  const Load load_;
  std::mt19937_64 random_;
  VirtualLoop loop_;
  RouterWatch watch_;
  SimulatedFleet fleet_;
  Router router_;
  int64_t arrived_ = 0;
  std::map<int64_t, Client> clients_;
  std::unique_ptr<Loop::Alarm> arrival_, album_, event_;
  Counts counts_;
  std::string failure_;
};

int64_t Number(const char* name, int64_t otherwise) {
  const char* const text = std::getenv(name);
  int64_t number = otherwise;
  if (text != nullptr && !absl::SimpleAtoi(text, &number)) ADD_FAILURE() << name;
  return number;
}

TEST(SimulationTest, AnswersEveryRequestOnceAndLeavesNothingOpen) {
  const int64_t requests = Number("MINICPMV_SIMULATION_REQUESTS", 10'000);
  const auto seed = static_cast<uint64_t>(Number("MINICPMV_SIMULATION_SEED", 1));
  constexpr int64_t kRequestsOfARun = 2'000;
  Counts sum;
  SimulatedFleet::Seen seen;
  for (int64_t done = 0; done < requests; done += kRequestsOfARun) {
    const uint64_t run_seed = seed + static_cast<uint64_t>(done / kRequestsOfARun);
    const int64_t of_run = std::min(kRequestsOfARun, requests - done);
    Simulation simulation(run_seed, of_run);
    const Counts counts = simulation.Run();
    ASSERT_EQ(simulation.failure(), "") << "again with MINICPMV_SIMULATION_SEED=" << run_seed
                                        << " MINICPMV_SIMULATION_REQUESTS=" << of_run;
    sum.complete += counts.complete;
    sum.cancelled += counts.cancelled;
    sum.expired += counts.expired;
    sum.refused += counts.refused;
    sum.unavailable += counts.unavailable;
    sum.resumed += counts.resumed;
    sum.failovers += counts.failovers;
    for (size_t kind = 0; kind < sum.kinds.size(); ++kind) {
      Add(counts.kinds[kind], sum.kinds[kind]);
    }
    seen.landed += simulation.seen().landed;
    seen.lost += simulation.seen().lost;
    seen.adopted += simulation.seen().adopted;
    seen.recalled += simulation.seen().recalled;
    seen.preempted += simulation.seen().preempted;
    seen.held_tokens += simulation.seen().held_tokens;
  }
  std::cout << sum.complete << " complete, " << sum.cancelled << " cancelled, " << sum.expired
            << " expired, " << sum.refused << " refused, " << sum.unavailable << " unavailable, "
            << sum.resumed << " resumed, " << sum.failovers << " failovers, the longest took "
            << std::max(sum.kinds[kText].longest, sum.kinds[kPictures].longest) << "\n"
            << seen.landed << " parcels of pages landed, " << seen.lost << " were lost, "
            << seen.adopted << " landings were adopted, " << seen.recalled << " recalled, "
            << seen.preempted << " sequences preempted, " << seen.held_tokens
            << " tokens found in prefix indexes\n";
  EXPECT_EQ(sum.complete + sum.cancelled + sum.expired + sum.refused + sum.unavailable, requests);
  // It is not the fleet that answers for disturbances.
  EXPECT_GT(sum.complete, requests / 2);
  EXPECT_LE(sum.unavailable, requests / 100);
  // There was trouble of every kind.
  EXPECT_GE(seen.lost, requests / 1000);
  EXPECT_GE(seen.adopted, requests / 100);
  EXPECT_GE(seen.recalled, requests / 10'000);
  EXPECT_GE(seen.preempted, requests / 10'000);
  EXPECT_GE(seen.held_tokens, requests);
  // Nobody starves, and who asks about pictures is answered as others are.
  for (const Kind kind : {kText, kPictures}) {
    EXPECT_LT(sum.kinds[kind].longest, absl::Minutes(2)) << kind;
  }
  const auto share = [&](Kind kind) {
    return static_cast<double>(sum.kinds[kind].complete) /
           static_cast<double>(sum.kinds[kind].arrived);
  };
  EXPECT_GT(share(kPictures), 0.8 * share(kText));
}

TEST(SimulationTest, AnswersTextBesideAlbumsAlmostAsFastAsWithout) {
  const int64_t requests = Number("MINICPMV_SIMULATION_REQUESTS", 6'000);
  const auto seed = static_cast<uint64_t>(Number("MINICPMV_SIMULATION_SEED", 1));
  const Load alone = {absl::Milliseconds(15), 2'000, /*is_disturbed=*/false};
  Load beside = alone;
  beside.albums = absl::Seconds(2);
  Simulation without(seed, requests, alone), with(seed, requests, beside);
  const Counts few = without.Run(), many = with.Run();
  ASSERT_EQ(without.failure(), "");
  ASSERT_EQ(with.failure(), "");
  const KindCounts& albums = many.kinds[kAlbum];
  std::cout << "first text of requests without pictures, p99: " << P99(few.kinds[kText].first_text)
            << ", beside " << albums.arrived << " albums " << P99(many.kinds[kText].first_text)
            << "; the longest album took " << albums.longest << "\n";
  EXPECT_EQ(many.complete + many.expired, requests);
  EXPECT_GE(albums.complete, requests / 200);
  EXPECT_LE(P99(many.kinds[kText].first_text), 1.5 * P99(few.kinds[kText].first_text));
  // They wait, but not for ever.
  EXPECT_LT(albums.longest, absl::Seconds(30));
}

TEST(SimulationTest, RunsTheSameWayAgain) {
  EXPECT_EQ(Simulation(5, 300).Run().hash, Simulation(5, 300).Run().hash);
  EXPECT_NE(Simulation(5, 300).Run().hash, Simulation(6, 300).Run().hash);
}

}  // namespace
}  // namespace minicpmv::router
