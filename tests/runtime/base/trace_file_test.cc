#include "runtime/base/trace_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "runtime/base/clock.h"
#include "runtime/base/tracing.h"
#include "tests/runtime/base/temp_folder.h"

namespace minicpmv {
namespace {

using ::testing::ElementsAre;
using Json = nlohmann::json;

class TraceFileTest : public ::testing::Test {
 protected:
  std::unique_ptr<TraceFile> Open(TraceFileOptions options = {}) {
    options.process = "decode \"0\"";
    absl::StatusOr<std::unique_ptr<TraceFile>> file = TraceFile::Open(path_, options);
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }
  // A part of work_, of that many milliseconds from start_ on.
  TraceSpan Part(TraceRow row, int from, int to) const {
    return {SpanKind::kPart, row, "part", At(from), At(to), &work_, {}};
  }
  absl::Time At(int milliseconds) const { return start_ + absl::Milliseconds(milliseconds); }
  std::string Text() const {
    std::ifstream file(path_);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  Json Read() const { return Json::parse(Text()); }
  static std::vector<Json> Of(const Json& trace, const std::string& phase) {
    std::vector<Json> found;
    for (const Json& event : trace["traceEvents"]) {
      if (event["ph"] == phase) found.push_back(event);
    }
    return found;
  }

  TempFolder folder_;
  const std::string path_ = folder_ / "trace.json";
  const absl::Time start_ = Clock::Monotonic().Now();
  const TracedWork work_ = {"00ff", {"11", "22", "33", 1, ""}};
};

TEST_F(TraceFileTest, HoldsCompleteEventsWithNamesAndArguments) {
  const absl::Time wall = absl::Now();
  {
    const std::unique_ptr<TraceFile> file = Open();
    file->Add({SpanKind::kPart,
               TraceRow::kDecode,
               "a \"step\"",
               At(0),
               At(250),
               &work_,
               {{"token", int64_t{7}}, {"how", "we\nll"}}});
  }
  const Json trace = Read();
  const std::vector<Json> spans = Of(trace, "X");
  ASSERT_EQ(spans.size(), 1u);
  const Json& span = spans[0];
  EXPECT_EQ(span["name"], "a \"step\"");
  EXPECT_EQ(span["cat"], "decode");
  EXPECT_EQ(span["pid"], getpid());
  EXPECT_EQ(span["dur"], 250'000);
  EXPECT_LT(std::abs(span["ts"].get<double>() - absl::ToUnixMicros(wall)), 10e6);
  EXPECT_EQ(span["args"],
            (Json{{"request", "00ff"}, {"trace", "11"}, {"token", 7}, {"how", "we\nll"}}));
  std::map<std::string, Json> names;
  for (const Json& event : Of(trace, "M")) names[event["name"]] = event;
  EXPECT_EQ(names["process_name"]["args"]["name"], "decode \"0\"");
  EXPECT_EQ(names["thread_name"]["args"]["name"], "decode");
  EXPECT_EQ(names["thread_name"]["tid"], span["tid"]);
}

TEST_F(TraceFileTest, DrawsSpansThatOverlapOnRowsOfTheirOwn) {
  {
    const std::unique_ptr<TraceFile> file = Open();
    file->Add(Part(TraceRow::kEncode, 0, 10));
    file->Add(Part(TraceRow::kEncode, 5, 12));
    file->Add(Part(TraceRow::kEncode, 10, 20));
    file->Add(Part(TraceRow::kEncode, 12, 13));
    file->Add(Part(TraceRow::kMedia, 0, 10));
  }
  std::vector<int> rows;
  for (const Json& event : Of(Read(), "X")) rows.push_back(event["tid"]);
  EXPECT_THAT(rows, ElementsAre(1, 2, 1, 2, 3));
}

TEST_F(TraceFileTest, DrawsAnArrowFromACallToItsAnswer) {
  {
    const std::unique_ptr<TraceFile> file = Open();
    file->Add({SpanKind::kCall, TraceRow::kCall, "call", At(0), At(9), &work_, {}});
    const TracedWork answer = {"00ff", {"11", "44", "22", 1, ""}};
    file->Add({SpanKind::kWork, TraceRow::kRequest, "answer", At(1), At(8), &answer, {}});
    const TracedWork first = {"00fe", {"12", "45", "", 1, ""}};
    file->Add({SpanKind::kWork, TraceRow::kRequest, "first", At(1), At(8), &first, {}});
  }
  const Json trace = Read();
  const std::vector<Json> starts = Of(trace, "s"), ends = Of(trace, "f");
  ASSERT_EQ(starts.size(), 1u);
  ASSERT_EQ(ends.size(), 1u);
  EXPECT_EQ(starts[0]["id"], "0x22");
  EXPECT_EQ(ends[0]["id"], starts[0]["id"]);
  EXPECT_EQ(Of(trace, "X")[1]["args"],
            (Json{{"request", "00ff"}, {"trace", "11"}, {"span", "44"}, {"parent", "22"}}));
}

TEST_F(TraceFileTest, IsWholeWithoutBeingClosed) {
  const std::unique_ptr<TraceFile> file = Open();
  const absl::Time patience = absl::Now() + absl::Seconds(30);
  EXPECT_TRUE(Of(Read(), "X").empty());
  for (const size_t written : {1, 2, 3}) {
    file->Add(Part(TraceRow::kStep, 0, 1));
    // A look may catch the writer at it.
    Json seen;
    do {
      ASSERT_LT(absl::Now(), patience);
      std::this_thread::yield();
      seen = Json::parse(Text(), nullptr, /*allow_exceptions=*/false);
    } while (seen.is_discarded() || Of(seen, "X").size() < written);
  }
}

TEST_F(TraceFileTest, DropsWhatHasNoRoom) {
  TraceFileOptions options;
  options.buffer = 1000;
  options.flush_every = absl::Hours(1);  // until its end
  std::unique_ptr<TraceFile> file = Open(options);
  for (int i = 0; i < 100; ++i) file->Add(Part(TraceRow::kStep, i, i + 1));
  const int64_t dropped = file->dropped();
  EXPECT_GT(dropped, 80);
  file = nullptr;
  EXPECT_EQ(Of(Read(), "X").size(), static_cast<size_t>(100 - dropped));
}

TEST_F(TraceFileTest, EndsAtTheFilesLimit) {
  TraceFileOptions options;
  options.file = 10'000;
  options.flush_every = absl::ZeroDuration();
  const std::unique_ptr<TraceFile> file = Open(options);
  const absl::Time patience = absl::Now() + absl::Seconds(30);
  while (file->dropped() == 0) {
    file->Add(Part(TraceRow::kStep, 0, 1));
    ASSERT_LT(absl::Now(), patience);
  }
  EXPECT_GT(Of(Read(), "X").size(), 30u);  // nothing is written any more
}

TEST_F(TraceFileTest, TellsWhyItCannotBeWritten) {
  const absl::Status status = TraceFile::Open(folder_ / "absent/trace.json", {}).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("absent/trace.json"));
}

TEST_F(TraceFileTest, TakesSpansOfManyThreadsWhileItIsOn) {
  const absl::Time now = Clock::Monotonic().Now();
  TracePart(TraceRow::kStep, "before", now, now, work_);
  {
    const absl::StatusOr<std::unique_ptr<Tracing>> tracing = Tracing::To(path_, {});
    ASSERT_TRUE(tracing.ok()) << tracing.status();
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int j = 0; j < 100; ++j) TracePart(TraceRow::kStep, "during", now, now, work_);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_FALSE(IsTracing());
  TracePart(TraceRow::kStep, "after", now, now, work_);
  EXPECT_EQ(Of(Read(), "X").size(), 400u);
}

}  // namespace
}  // namespace minicpmv
