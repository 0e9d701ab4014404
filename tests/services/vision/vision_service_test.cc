#include "services/vision/vision_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "services/common/durations.h"
#include "services/common/status_proto.h"
#include "tests/services/vision/vision_worker.h"

namespace minicpmv {
namespace {

using ::testing::HasSubstr;
using vision::v1::EncodeMediaRequest;
using vision::v1::PutMediaResponse;
using vision::v1::SliceProgress;

// Takes connections and never says a word.
class SilentPort {
 public:
  SilentPort() : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in any = {};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(any);
    auto* const address = reinterpret_cast<sockaddr*>(&any);
    CHECK(bind(socket_, address, size) == 0 && listen(socket_, 16) == 0 &&
          getsockname(socket_, address, &size) == 0);
    port_ = ntohs(any.sin_port);
  }
  ~SilentPort() { close(socket_); }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

 private:
  const int socket_;
  int port_ = 0;
};

class VisionServiceTest : public ::testing::Test {
 protected:
  // All rows of a picture, by the number of its span.
  std::map<int64_t, std::string> Wanted(const std::string& bytes) {
    std::map<int64_t, std::string> wanted;
    for (std::string& rows : PlainRows(*reference_, bytes)) {
      wanted.emplace(static_cast<int64_t>(wanted.size()), std::move(rows));
    }
    return wanted;
  }
  EncodeMediaRequest RequestOf(const std::string& bytes, RowsReceiver& receiver) {
    return EncodeRequestOf(*reference_, bytes, receiver.destination());
  }

  const std::unique_ptr<LocalModel> reference_ = NanoTower();
};

TEST_F(VisionServiceTest, TakesAMediumOnceAndTellsWhatItIs) {
  VisionWorker worker("vision");
  const std::string bytes = SlicedPicture();
  const PutResult first = Put(worker, bytes);
  ASSERT_TRUE(first.status.ok()) << first.status;
  ASSERT_EQ(first.responses.size(), 2u);
  EXPECT_EQ(first.responses[0].decision(), PutMediaResponse::DECISION_SEND);
  EXPECT_EQ(first.responses[1].info().width(), 420u);
  EXPECT_EQ(first.responses[1].info().format(), "png");

  // A second router sends its chunks before it has the answer, and loses nothing by it.
  const PutResult second = Put(worker, bytes);
  ASSERT_TRUE(second.status.ok()) << second.status;
  ASSERT_EQ(second.responses.size(), 2u);
  EXPECT_EQ(second.responses[0].decision(), PutMediaResponse::DECISION_HELD);
  EXPECT_EQ(second.responses[1].info().height(), 415u);

  const PutResult other = Put(worker, bytes, "another tenant");
  ASSERT_TRUE(other.status.ok()) << other.status;
  EXPECT_EQ(other.responses[0].decision(), PutMediaResponse::DECISION_SEND);
  EXPECT_TRUE(Eventually([&] { return worker.IsAtRest(); }));
}

TEST_F(VisionServiceTest, TakesAMediumOfManyChunks) {
  VisionWorker worker("vision");
  const std::string bytes =
      FileBytes("tests/testdata/images/orientation6.jpg") + std::string(700000, '\0');
  const PutResult put = Put(worker, bytes);
  ASSERT_TRUE(put.status.ok()) << put.status;
  EXPECT_EQ(put.responses[1].info().format(), "jpeg");
}

TEST_F(VisionServiceTest, RefusesMediaThatAreNotWhatWasOffered) {
  VisionWorker worker("vision");
  const std::string bytes = SlicedPicture();
  auto offer = OfferOf(bytes, "tenant");
  const auto chunk = ChunkOf(0, bytes);

  auto wrong_digest = offer;
  wrong_digest.mutable_offer()->set_digest(std::string(32, 'x'));
  EXPECT_TRUE(absl::IsDataLoss(Put(worker, {wrong_digest, chunk}).status));
  auto too_short = offer;
  too_short.mutable_offer()->set_size(bytes.size() - 1);
  EXPECT_TRUE(absl::IsDataLoss(Put(worker, {too_short, chunk}).status));
  auto too_long = offer;
  too_long.mutable_offer()->set_size(bytes.size() + 1);
  EXPECT_TRUE(absl::IsDataLoss(Put(worker, {too_long, chunk}).status));
  EXPECT_TRUE(absl::IsDataLoss(Put(worker, {offer, ChunkOf(1, bytes)}).status));
  EXPECT_TRUE(absl::IsDataLoss(Put(worker, {offer, ChunkOf(~uint64_t{0}, bytes)}).status));
  EXPECT_TRUE(absl::IsDataLoss(Put(worker, {chunk, offer}).status));
  EXPECT_TRUE(absl::IsDataLoss(Put(worker, {offer, offer}).status));
  EXPECT_TRUE(absl::IsDataLoss(Put(worker, {offer}).status));
  EXPECT_TRUE(absl::IsInvalidArgument(Put(worker, {vision::v1::PutMediaRequest()}).status));

  auto huge = offer;
  huge.mutable_offer()->set_size((20 << 20) + 1);
  const absl::Status status = Put(worker, {huge}).status;
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_EQ(ReasonOf(status), "TOO_LARGE");
  const absl::Status html = Put(worker, "<html></html>").status;
  EXPECT_TRUE(absl::IsInvalidArgument(html)) << html;
  EXPECT_EQ(ReasonOf(html), "NO_MEDIUM");
  EXPECT_TRUE(Eventually([&] { return worker.IsAtRest(); }));
  EXPECT_EQ(worker.service().media().bytes(), 0u);
}

TEST_F(VisionServiceTest, AnUploadThatNeverFinishesEndsWithItsCall) {
  VisionOptions options;
  options.media.capacity = 4000;
  VisionWorker worker("vision", /*gated=*/false, options);
  const std::string bytes = SlicedPicture();
  Told<PutEvent> told;
  const std::shared_ptr<PutClient> call = OpenPut(worker, told);
  auto offer = OfferOf(bytes, "tenant");
  offer.mutable_offer()->set_size(3000);
  call->Send(offer);
  call->Send(ChunkOf(0, absl::string_view(bytes).substr(0, 500)));
  ASSERT_TRUE(told.Next().has_value());  // SEND
  EXPECT_EQ(worker.service().media().held_bytes(), 3000u);
  EXPECT_TRUE(absl::IsResourceExhausted(Put(worker, bytes).status));
  call->Cancel();
  EXPECT_TRUE(Eventually([&] { return worker.IsAtRest(); }));
  EXPECT_TRUE(Put(worker, bytes).status.ok());
  call->SendLast();
  ASSERT_TRUE(told.Next().has_value());  // the end
}

TEST_F(VisionServiceTest, SendsTheRowsThatOneProcessMakes) {
  VisionWorker worker("vision");
  for (const std::string& bytes : {SlicedPicture(), WidePicture(), SmallPicture()}) {
    RowsReceiver receiver(*reference_);
    ASSERT_TRUE(Put(worker, bytes).status.ok());
    EncodeClient call(worker, RequestOf(bytes, receiver));
    const common::v1::Landing landing = call.Landing();
    EXPECT_EQ(landing.incarnation().size(), 16u);
    EXPECT_GT(landing.slot(), 0u);
    ASSERT_TRUE(call.End().ok()) << call.End();
    const auto wanted = Wanted(bytes);
    EXPECT_EQ(receiver.rows(), wanted);
    for (uint32_t i = 0; i < wanted.size(); ++i) {
      EXPECT_EQ(call.steps().count({i, SliceProgress::STEP_MADE_ROWS}), 1u);
      EXPECT_EQ(call.steps().count({i, SliceProgress::STEP_LANDED_ROWS}), 1u);
    }
    EXPECT_EQ(call.steps().size(), 2 * wanted.size());
  }
  EXPECT_TRUE(Eventually([&] { return worker.IsAtRest(); }));
}

TEST_F(VisionServiceTest, BillsWhatWasDoneByItsOwnClock) {
  VisionWorker worker("vision");
  RowsReceiver receiver(*reference_);
  const std::string bytes = SlicedPicture();
  ASSERT_TRUE(Put(worker, bytes).status.ok());
  EncodeClient call(worker, RequestOf(bytes, receiver));
  ASSERT_TRUE(call.End().ok());
  ASSERT_TRUE(call.bill().has_value());
  std::vector<common::v1::Work> works;
  for (const common::v1::BillLine& line : call.bill()->lines()) {
    works.push_back(line.work());
    const absl::Duration start = Must(DurationFrom(line.start())),
                         end = Must(DurationFrom(line.end())),
                         busy = Must(DurationFrom(line.busy()));
    EXPECT_LE(start, end);
    EXPECT_LE(busy, end - start);
  }
  EXPECT_THAT(works, ::testing::ElementsAre(common::v1::WORK_QUEUE, common::v1::WORK_MEDIA,
                                            common::v1::WORK_ENCODE, common::v1::WORK_TRANSFER));
  size_t bytes_of_rows = 0;
  for (const auto& [span, rows] : receiver.rows()) bytes_of_rows += rows.size();
  EXPECT_EQ(call.bill()->sent_bytes(), bytes_of_rows);
  EXPECT_EQ(call.bill()->cached_slices(), 0u);
}

TEST_F(VisionServiceTest, FindsRowsTheSecondTimeAndInItsOwnScopeOnly) {
  VisionWorker worker("vision");
  const std::string bytes = SlicedPicture();
  ASSERT_TRUE(Put(worker, bytes).status.ok());
  RowsReceiver first(*reference_), second(*reference_), third(*reference_);
  EXPECT_TRUE(EncodeClient(worker, RequestOf(bytes, first)).End().ok());
  EXPECT_EQ(worker.slices(), 5);

  EncodeClient call(worker, RequestOf(bytes, second));
  ASSERT_TRUE(call.End().ok());
  EXPECT_EQ(second.rows(), first.rows());
  EXPECT_EQ(call.bill()->cached_slices(), 5u);
  for (uint32_t i = 0; i < 5; ++i) {
    EXPECT_EQ(call.steps().count({i, SliceProgress::STEP_FOUND_ROWS}), 1u);
  }
  EXPECT_EQ(worker.slices(), 5);
  EXPECT_EQ(worker.metric("minicpmv_rows_cache_hits_total"), 5);

  EncodeMediaRequest other = RequestOf(bytes, third);
  other.mutable_scope()->set_cache_scope("another tenant");
  EXPECT_TRUE(absl::IsNotFound(EncodeClient(worker, other).End()));
  ASSERT_TRUE(Put(worker, bytes, "another tenant").status.ok());
  EXPECT_TRUE(EncodeClient(worker, other).End().ok());
  EXPECT_EQ(worker.slices(), 10);
}

TEST_F(VisionServiceTest, ADestinationOnTheSameWorkerNeedsNoLink) {
  VisionWorker worker("vision");
  RowsReceiver elsewhere(*reference_);
  const std::string bytes = SlicedPicture();
  ASSERT_TRUE(Put(worker, bytes).status.ok());
  // The receiver's landing among the worker's own ones.
  const uint64_t slot = worker.worker().landings().Open(elsewhere).slot;
  EncodeMediaRequest request = RequestOf(bytes, elsewhere);
  *request.mutable_destination() = worker.plain().DestinationOf(slot);
  EncodeClient call(worker, request);
  ASSERT_TRUE(call.End().ok()) << call.End();
  worker.worker().landings().Close(slot, [] {});
  EXPECT_EQ(elsewhere.rows(), Wanted(bytes));
  EXPECT_EQ(call.bill()->sent_bytes(), 0u);
}

// The home encodes the even spans, the helper the others.
struct FanOut {
  EncodeMediaRequest home, helper;
};
FanOut FanOutOf(const EncodeMediaRequest& whole) {
  FanOut out = {whole, whole};
  out.home.clear_spans();
  out.helper.clear_spans();
  out.helper.mutable_arriving();
  vision::v1::PixelHelper& pixels = *out.home.mutable_held()->add_helpers();
  for (int i = 0; i < whole.spans_size(); ++i) {
    *(i % 2 == 0 ? out.home.add_spans() : out.helper.add_spans()) = whole.spans(i);
    if (i % 2 == 1) *pixels.add_spans() = whole.spans(i);
  }
  return out;
}

TEST_F(VisionServiceTest, HomeAndHelperTogetherMakeTheSameRows) {
  VisionWorker home("home"), helper("helper");
  for (const std::string& bytes : {SlicedPicture(), WidePicture()}) {
    RowsReceiver receiver(*reference_);
    ASSERT_TRUE(Put(home, bytes).status.ok());
    FanOut out = FanOutOf(RequestOf(bytes, receiver));
    EncodeClient helping(helper, out.helper);
    *out.home.mutable_held()->mutable_helpers(0)->mutable_destination() =
        helper.plain().DestinationOf(helping.Landing().slot());
    EncodeClient call(home, out.home);
    ASSERT_TRUE(call.End().ok()) << call.End();
    ASSERT_TRUE(helping.End().ok()) << helping.End();
    EXPECT_EQ(receiver.rows(), Wanted(bytes));
    EXPECT_EQ(call.steps().count({1, SliceProgress::STEP_SENT_PIXELS}), 1u);
    EXPECT_EQ(helping.steps().count({1, SliceProgress::STEP_LANDED_ROWS}), 1u);
    // The helper has opened no medium.
    for (const common::v1::BillLine& line : helping.bill()->lines()) {
      EXPECT_NE(line.work(), common::v1::WORK_MEDIA);
    }
  }
  EXPECT_EQ(home.slices(), 6);
  EXPECT_EQ(helper.slices(), 4);
  EXPECT_TRUE(Eventually([&] { return home.IsAtRest() && helper.IsAtRest(); }));
}

TEST_F(VisionServiceTest, AHelperThatKnowsTheRowsStillTakesThePixels) {
  VisionWorker home("home"), helper("helper");
  const std::string bytes = SlicedPicture();
  ASSERT_TRUE(Put(home, bytes).status.ok());
  for (int round = 0; round < 2; ++round) {
    RowsReceiver receiver(*reference_);
    FanOut out = FanOutOf(RequestOf(bytes, receiver));
    EncodeClient helping(helper, out.helper);
    *out.home.mutable_held()->mutable_helpers(0)->mutable_destination() =
        helper.plain().DestinationOf(helping.Landing().slot());
    EncodeClient call(home, out.home);
    ASSERT_TRUE(call.End().ok()) << call.End();
    ASSERT_TRUE(helping.End().ok()) << helping.End();
    EXPECT_EQ(receiver.rows(), Wanted(bytes));
    EXPECT_EQ(helping.bill()->cached_slices(), round == 0 ? 0u : 2u);
  }
  EXPECT_EQ(helper.slices(), 2);
}

TEST_F(VisionServiceTest, AHomeWhoseHelperIsGoneEndsUnavailable) {
  VisionWorker home("home", /*gated=*/true), helper("helper", /*gated=*/true);
  RowsReceiver receiver(*reference_);
  const std::string bytes = SlicedPicture();
  ASSERT_TRUE(Put(home, bytes).status.ok());
  FanOut out = FanOutOf(RequestOf(bytes, receiver));
  EncodeClient helping(helper, out.helper);
  *out.home.mutable_held()->mutable_helpers(0)->mutable_destination() =
      helper.plain().DestinationOf(helping.Landing().slot());
  helping.Cancel();
  EXPECT_TRUE(absl::IsCancelled(helping.End()));
  ASSERT_TRUE(Eventually([&] { return helper.IsAtRest(); }));
  EncodeClient call(home, out.home);
  EXPECT_TRUE(absl::IsUnavailable(call.End())) << call.End();
  home.gate().Allow(1 << 20);
  EXPECT_TRUE(Eventually([&] { return home.IsAtRest(); }));
}

TEST_F(VisionServiceTest, ADestinationThatIsGoneEndsTheCallUnavailable) {
  VisionWorker worker("vision");
  RowsReceiver receiver(*reference_);
  const std::string bytes = SlicedPicture();
  ASSERT_TRUE(Put(worker, bytes).status.ok());
  const EncodeMediaRequest request = RequestOf(bytes, receiver);
  receiver.CloseLanding();
  const absl::Status status = EncodeClient(worker, request).End();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_TRUE(Eventually([&] { return worker.IsAtRest(); }));
}

TEST_F(VisionServiceTest, CancelWhileABatchIsEncodedLeavesNothing) {
  VisionWorker worker("vision", /*gated=*/true);
  RowsReceiver receiver(*reference_);
  const std::string bytes = SlicedPicture();
  ASSERT_TRUE(Put(worker, bytes).status.ok());
  EncodeClient call(worker, RequestOf(bytes, receiver));
  ASSERT_TRUE(Eventually([&] { return worker.gate().begun() == 1; }));
  EXPECT_EQ(worker.worker().landings().open(), 1);
  call.Cancel();
  EXPECT_TRUE(absl::IsCancelled(call.End()));
  EXPECT_TRUE(Eventually([&] { return worker.worker().landings().open() == 0; }));
  worker.gate().Allow(1);
  EXPECT_TRUE(Eventually([&] { return worker.IsAtRest(); }));
  EXPECT_TRUE(receiver.rows().empty());
  EXPECT_EQ(worker.gate().begun(), 1);
}

TEST_F(VisionServiceTest, CancelWhileRowsWaitForALinkLeavesNothing) {
  VisionWorker worker("vision");
  RowsReceiver receiver(*reference_);
  const std::string bytes = SlicedPicture();
  ASSERT_TRUE(Put(worker, bytes).status.ok());
  EncodeMediaRequest request = RequestOf(bytes, receiver);
  const SilentPort silent;
  request.mutable_destination()->set_address(silent.address());
  request.mutable_destination()->set_worker_id("silent");
  EncodeClient call(worker, request);
  call.Landing();
  ASSERT_TRUE(Eventually([&] { return worker.slices() == 5; }));
  call.Cancel();
  EXPECT_TRUE(absl::IsCancelled(call.End())) << call.End();
  // At once: what has not begun to travel is dropped.
  EXPECT_TRUE(Eventually([&] { return worker.IsAtRest(); }, std::chrono::seconds(3)));
}

TEST_F(VisionServiceTest, CancelWhilePixelsArriveLeavesNothing) {
  VisionWorker helper("helper");
  RowsReceiver receiver(*reference_);
  EncodeMediaRequest request = RequestOf(SlicedPicture(), receiver);
  request.mutable_arriving();
  EncodeClient call(helper, request);
  const common::v1::Landing landing = call.Landing();
  // One line of one slice.
  const std::vector<uint8_t> line(
      static_cast<size_t>(request.spans(0).span().slice().patch_columns()) * 14 * 3);
  Link* const link =
      Must(receiver.plain().links().To(helper.plain().DestinationOf(landing.slot())));
  Told<absl::Status> told;
  Parcel parcel;
  parcel.label.landing = {helper.worker().incarnation(), landing.slot()};
  parcel.label.kind = ParcelKind::kPixels;
  parcel.label.count = 1;
  parcel.label.width = static_cast<int64_t>(line.size() / 3);
  parcel.label.dtype = DType::kU8;
  parcel.label.bytes = line.size();
  parcel.content = {
      ConstTensorView(line.data(), DType::kU8, Shape{static_cast<int64_t>(line.size())})};
  link->Send(parcel, [&](absl::Status status) { told.Add(std::move(status)); });
  EXPECT_TRUE(told.Next()->ok());
  call.Cancel();
  EXPECT_TRUE(absl::IsCancelled(call.End()));
  EXPECT_TRUE(Eventually([&] { return helper.IsAtRest(); }));
  parcel.label.first = 1;
  link->Send(parcel, [&](absl::Status status) { told.Add(std::move(status)); });
  EXPECT_TRUE(absl::IsAborted(*told.Next()));
}

TEST_F(VisionServiceTest, PixelsThatDoNotFitAreRefusedAndHarmNobody) {
  VisionWorker home("home"), helper("helper");
  RowsReceiver receiver(*reference_);
  const std::string bytes = SlicedPicture();
  ASSERT_TRUE(Put(home, bytes).status.ok());
  FanOut out = FanOutOf(RequestOf(bytes, receiver));
  EncodeClient helping(helper, out.helper);
  const uint64_t slot = helping.Landing().slot();
  Link* const link = Must(receiver.plain().links().To(helper.plain().DestinationOf(slot)));

  const int64_t width = out.helper.spans(0).span().slice().patch_columns() * 14;
  const int64_t height = out.helper.spans(0).span().slice().patch_rows() * 14;
  const std::vector<uint8_t> content(1 << 20);
  ParcelLabel good;
  good.landing = {helper.worker().incarnation(), slot};
  good.kind = ParcelKind::kPixels;
  good.index = 1;
  good.count = 2;
  good.width = width;
  good.dtype = DType::kU8;
  good.bytes = static_cast<uint64_t>(2 * width * 3);
  const std::function<void(ParcelLabel&)> lies[] = {
      [](ParcelLabel& l) { l.kind = ParcelKind::kRows; },
      [](ParcelLabel& l) { l.index = 0; },
      [](ParcelLabel& l) { l.index = 77; },
      [](ParcelLabel& l) { l.width += 1; },
      [&](ParcelLabel& l) { l.first = height - 1; },
      [&](ParcelLabel& l) { l.first = height; },
      [](ParcelLabel& l) { l.first = 0x7fffffff; },
      [](ParcelLabel& l) { l.bytes -= 1; },
      [](ParcelLabel& l) { l.bytes += 3; },
      [](ParcelLabel& l) { l.dtype = DType::kF32; },
  };
  for (const auto& lie : lies) {
    ParcelLabel label = good;
    lie(label);
    Told<absl::Status> told;
    link->Send(
        {label,
         {ConstTensorView(content.data(), DType::kU8, Shape{static_cast<int64_t>(label.bytes)})}},
        [&](absl::Status status) { told.Add(std::move(status)); });
    const std::optional<absl::Status> status = told.Next();
    ASSERT_TRUE(status.has_value());
    EXPECT_TRUE(absl::IsInvalidArgument(*status)) << *status;
  }

  *out.home.mutable_held()->mutable_helpers(0)->mutable_destination() =
      helper.plain().DestinationOf(slot);
  EncodeClient call(home, out.home);
  ASSERT_TRUE(call.End().ok()) << call.End();
  ASSERT_TRUE(helping.End().ok()) << helping.End();
  EXPECT_EQ(receiver.rows(), Wanted(bytes));
}

TEST_F(VisionServiceTest, TwoCallsThatWantTheSameRowsEncodeThemOnce) {
  VisionWorker worker("vision", /*gated=*/true);
  RowsReceiver first(*reference_), second(*reference_);
  const std::string bytes = SlicedPicture();
  ASSERT_TRUE(Put(worker, bytes).status.ok());
  EncodeClient a(worker, EncodeRequestOf(*reference_, bytes, first.destination(), "a"));
  EncodeClient b(worker, EncodeRequestOf(*reference_, bytes, second.destination(), "b"));
  a.Landing();
  b.Landing();
  worker.gate().Allow(1 << 20);
  EXPECT_TRUE(a.End().ok());
  EXPECT_TRUE(b.End().ok());
  EXPECT_EQ(first.rows(), Wanted(bytes));
  EXPECT_EQ(second.rows(), Wanted(bytes));
  EXPECT_EQ(worker.slices(), 5);
}

TEST_F(VisionServiceTest, RefusesRequestsThatLie) {
  VisionWorker worker("vision");
  RowsReceiver receiver(*reference_);
  const std::string bytes = SlicedPicture();
  ASSERT_TRUE(Put(worker, bytes).status.ok());
  using Code = absl::StatusCode;
  struct Lie {
    const char* what;
    Code code;
    std::function<void(EncodeMediaRequest&)> tell;
  };
  const auto slice = [](EncodeMediaRequest& r) -> common::v1::Slice& {
    return *r.mutable_spans(1)->mutable_span()->mutable_slice();
  };
  const auto for_all = [](EncodeMediaRequest& r, auto change) {
    for (auto& span : *r.mutable_spans()) change(*span.mutable_span()->mutable_options());
  };
  const Lie lies[] = {
      {"fingerprint", Code::kFailedPrecondition,
       [](auto& r) { r.set_model_fingerprint(std::string(32, 'x')); }},
      {"no fingerprint", Code::kFailedPrecondition, [](auto& r) { r.clear_model_fingerprint(); }},
      {"digest", Code::kNotFound,
       [](auto& r) {
         r.set_media_digest(std::string(32, 'x'));
         for (auto& s : *r.mutable_spans()) s.mutable_span()->set_media_digest(r.media_digest());
       }},
      {"short digest", Code::kInvalidArgument, [](auto& r) { r.set_media_digest("x"); }},
      {"span's digest", Code::kInvalidArgument,
       [](auto& r) { r.mutable_spans(2)->mutable_span()->set_media_digest(std::string(32, 'x')); }},
      {"no pixels", Code::kInvalidArgument, [](auto& r) { r.clear_pixels(); }},
      {"scope", Code::kInvalidArgument,
       [](auto& r) { r.mutable_scope()->set_cache_scope(std::string(65, 's')); }},
      {"rows", Code::kInvalidArgument,
       [](auto& r) { r.mutable_spans(0)->mutable_span()->set_rows(17); }},
      {"index twice", Code::kInvalidArgument, [](auto& r) { r.mutable_spans(0)->set_index(1); }},
      {"grid", Code::kInvalidArgument, [&](auto& r) { slice(r).set_grid_columns(3); }},
      {"no grid", Code::kInvalidArgument,
       [&](auto& r) {
         slice(r).clear_grid_columns();
         slice(r).clear_grid_rows();
       }},
      {"slice", Code::kInvalidArgument, [&](auto& r) { slice(r).set_index(5); }},
      {"huge slice", Code::kInvalidArgument, [&](auto& r) { slice(r).set_index(~0u); }},
      {"patches", Code::kInvalidArgument, [&](auto& r) { slice(r).set_patch_columns(1); }},
      {"huge patches", Code::kInvalidArgument, [&](auto& r) { slice(r).set_patch_rows(~0u); }},
      {"frame", Code::kInvalidArgument, [&](auto& r) { slice(r).set_frame(1); }},
      {"options differ", Code::kInvalidArgument,
       [](auto& r) { r.mutable_spans(1)->mutable_span()->mutable_options()->set_max_slices(4); }},
      {"max_slices 0", Code::kInvalidArgument,
       [&](auto& r) { for_all(r, [](auto& o) { o.set_max_slices(0); }); }},
      {"max_slices huge", Code::kInvalidArgument,
       [&](auto& r) { for_all(r, [](auto& o) { o.set_max_slices(~0u); }); }},
      {"cut otherwise", Code::kInvalidArgument,
       [&](auto& r) { for_all(r, [](auto& o) { o.set_max_slices(1); }); }},
      {"orientation", Code::kInvalidArgument,
       [&](auto& r) {
         for_all(r, [](auto& o) {
           o.set_exif_orientation(static_cast<common::v1::ExifOrientation>(9));
         });
       }},
      {"no destination", Code::kInvalidArgument, [](auto& r) { r.clear_destination(); }},
      {"no slot", Code::kInvalidArgument,
       [](auto& r) { r.mutable_destination()->mutable_landing()->set_slot(0); }},
      {"incarnation", Code::kInvalidArgument,
       [](auto& r) { r.mutable_destination()->mutable_landing()->set_incarnation("x"); }},
      {"helper without a place", Code::kInvalidArgument,
       [](auto& r) { r.mutable_held()->add_helpers(); }},
      {"helper's span", Code::kInvalidArgument,
       [](auto& r) { *r.mutable_held()->add_helpers()->add_spans() = r.spans(0); }},
      {"arriving grid", Code::kInvalidArgument,
       [&](auto& r) {
         r.mutable_arriving();
         slice(r).set_grid_columns(5);
       }},
      {"arriving half a grid", Code::kInvalidArgument,
       [&](auto& r) {
         r.mutable_arriving();
         slice(r).set_grid_columns(0);
       }},
      {"arriving slice", Code::kInvalidArgument,
       [&](auto& r) {
         r.mutable_arriving();
         slice(r).set_index(5);
       }},
      {"arriving patches", Code::kInvalidArgument,
       [&](auto& r) {
         r.mutable_arriving();
         slice(r).set_patch_columns(~0u);
         slice(r).set_patch_rows(~0u);
       }},
  };
  for (const Lie& lie : lies) {
    EncodeMediaRequest request = RequestOf(bytes, receiver);
    lie.tell(request);
    const absl::Status status = EncodeClient(worker, request).End();
    EXPECT_EQ(status.code(), lie.code) << lie.what << ": " << status;
  }
  EXPECT_TRUE(Eventually([&] { return worker.IsAtRest(); }));
  EXPECT_TRUE(receiver.rows().empty());
  EXPECT_EQ(worker.slices(), 0);
}

TEST_F(VisionServiceTest, PixelsThatMayArriveAreBounded) {
  RowsReceiver receiver(*reference_);
  EncodeMediaRequest request = RequestOf(SlicedPicture(), receiver);
  request.mutable_arriving();
  int64_t bytes = 0;
  for (const vision::v1::IndexedSpan& span : request.spans()) {
    const common::v1::Slice& slice = span.span().slice();
    bytes += int64_t{slice.patch_columns()} * slice.patch_rows() * 14 * 14 * 3;
  }
  VisionOptions options;
  options.pixel_capacity = 3 * bytes - 1;
  VisionWorker helper("helper", /*gated=*/false, options);
  {
    EncodeClient first(helper, request), second(helper, request);
    first.Landing();
    second.Landing();
    EXPECT_TRUE(absl::IsResourceExhausted(EncodeClient(helper, request).End()));
    EXPECT_EQ(helper.worker().landings().open(), 2);
  }
  EXPECT_TRUE(Eventually([&] { return helper.IsAtRest(); }));
  EncodeClient again(helper, request);
  EXPECT_GT(again.Landing().slot(), 0u);
}

TEST_F(VisionServiceTest, ADamagedMediumIsTheCallersFault) {
  VisionWorker worker("vision");
  RowsReceiver receiver(*reference_);
  const std::string whole = SlicedPicture();
  const std::string bytes = whole.substr(0, whole.size() / 2);
  ASSERT_TRUE(Put(worker, bytes).status.ok());
  const absl::Status status = EncodeClient(worker, RequestOf(bytes, receiver)).End();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_EQ(ReasonOf(status), "DAMAGED_MEDIUM");
  EXPECT_THAT(worker.plain().metrics().Text(),
              HasSubstr("minicpmv_media_rejects_total{reason=\"damaged_medium\"} 1"));
  EXPECT_TRUE(Eventually([&] { return worker.IsAtRest(); }));
}

TEST_F(VisionServiceTest, ADrainingWorkerTakesNothingNewAndHandsBackWhatRuns) {
  VisionWorker worker("vision", /*gated=*/true);
  RowsReceiver receiver(*reference_);
  const std::string bytes = SlicedPicture();
  ASSERT_TRUE(Put(worker, bytes).status.ok());
  EncodeClient running(worker, RequestOf(bytes, receiver));
  running.Landing();
  worker.worker().Drain(absl::Milliseconds(300));
  for (const absl::Status& status : {EncodeClient(worker, RequestOf(bytes, receiver)).End(),
                                     Put(worker, SmallPicture()).status}) {
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_EQ(ReasonOf(status), "DRAINING");
  }
  const absl::Status handed_back = running.End();
  EXPECT_TRUE(absl::IsAborted(handed_back)) << handed_back;
  EXPECT_EQ(ReasonOf(handed_back), "DRAINING");
  worker.gate().Allow(1 << 20);
  EXPECT_TRUE(Eventually([&] { return worker.IsAtRest(); }));
}

TEST_F(VisionServiceTest, TellsItsLoad) {
  VisionWorker worker("vision", /*gated=*/true);
  RowsReceiver receiver(*reference_);
  const std::string bytes = SlicedPicture();
  ASSERT_TRUE(Put(worker, bytes).status.ok());
  EncodeClient call(worker, RequestOf(bytes, receiver));
  ASSERT_TRUE(Eventually([&] { return worker.gate().begun() == 1; }));
  ASSERT_TRUE(Eventually([&] { return worker.worker().running() == 1; }));
  const control::v1::WorkerLoad load = worker.worker().Load();
  ASSERT_EQ(load.roles_size(), 1);
  EXPECT_EQ(load.roles(0).role(), common::v1::ROLE_VISION);
  EXPECT_EQ(load.roles(0).running(), 1u);
  EXPECT_EQ(load.roles(0).waiting(), 0u);
  EXPECT_EQ(load.roles(0).outstanding(), 5u);
  EXPECT_TRUE(load.roles(0).has_step_age());
  worker.gate().Allow(1 << 20);
  ASSERT_TRUE(call.End().ok());
  EXPECT_GT(worker.worker().Load().roles(0).rate(), 0);
}

TEST_F(VisionServiceTest, EverySeriesIsThereFromTheStart) {
  VisionWorker worker("vision");
  const std::string text = worker.plain().metrics().Text();
  for (const char* line :
       {"minicpmv_media_total{format=\"jpeg\"} 0", "minicpmv_media_total{format=\"webp\"} 0",
        "minicpmv_media_rejects_total{reason=\"no_medium\"} 0",
        "minicpmv_media_decode_seconds_count 0", "minicpmv_slices_total 0",
        "minicpmv_vision_batch_slices_count 0", "minicpmv_vision_step_seconds_count 0",
        "minicpmv_rows_cache_queries_total 0", "minicpmv_rows_cache_hits_total 0",
        "minicpmv_rows_cache_bytes 0", "minicpmv_landings 0"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

}  // namespace
}  // namespace minicpmv
