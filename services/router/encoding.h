#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "minicpmv/common/v1/landing.pb.h"
#include "minicpmv/common/v1/prompt.pb.h"
#include "minicpmv/common/v1/scope.pb.h"
#include "services/router/placement.h"
#include "services/router/request_bill.h"
#include "services/router/worker_call.h"
#include "services/router/workers.h"

namespace minicpmv::router {

// One medium of which slices are to be encoded.
struct MediumToEncode {
  std::string digest;
  MediumSlices slices;
};

// Where the rows come from and where they go.
struct EncodingGround {
  Workers& workers;
  CallGround calls;
  const common::v1::RequestScope& scope;
  const common::v1::Prompt& prompt;
  common::v1::Destination destination;  // a landing of the prefill worker
};

// The encoding of one request's slices, in one attempt: at their media's homes, and at helpers, to
// whom homes send pixels. Helpers first open their landings; one that cannot is done without. For
// the loop's thread; destroyed, it is given up.
class Encoding {
 public:
  Encoding(EncodingGround ground, std::vector<MediumToEncode> media,
           const std::set<std::string>& failed, RequestBill& bill);

  bool HasNews() const;
  // Takes what has come; a failure ends the attempt.
  std::optional<CallFailure> TakeNews();
  bool is_done() const;

 private:
  using Call = WorkerCall<vision::v1::EncodeMediaResponse>;
  struct Part {
    SliceShare share;
    std::unique_ptr<Call> call;  // null: not begun, or done
    std::optional<common::v1::Landing> landing;
    bool is_done = false;
  };
  struct Medium {
    std::string digest;
    Part home;
    std::vector<Part> helpers;
    bool has_begun = false;  // the home
  };

  vision::v1::EncodeMediaRequest RequestFor(const Medium& medium, const SliceShare& share) const;
  void AddSpans(const std::vector<uint32_t>& spans,
                google::protobuf::RepeatedPtrField<vision::v1::IndexedSpan>& out) const;
  void Begin(Part& part, vision::v1::EncodeMediaRequest request);
  // Once every helper has answered.
  void BeginHomeIfReady(Medium& medium);
  std::optional<CallFailure> Take(Part& part);
  static bool HasNews(const Part& part);

  const EncodingGround ground_;
  RequestBill& bill_;
  std::vector<Medium> media_;
};

}  // namespace minicpmv::router
