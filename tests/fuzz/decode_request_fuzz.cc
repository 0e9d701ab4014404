// A DecodeSequenceRequest from the wire: what is taken the engine may be given as it is.
#include <cmath>
#include <cstdint>

#include "runtime/base/check.h"
#include "services/decode/decode_request.h"
#include "tests/fuzz/nano_worker.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace minicpmv;
  const NanoWorker& worker = NanoWorker::Get();
  decode::v1::DecodeSequenceRequest request;
  if (!request.ParseFromArray(data, static_cast<int>(size))) return 0;
  worker.SetFingerprints(request);
  const absl::StatusOr<SequenceRequest> read =
      decode::ReadDecodeRequest(request, worker.identity, *worker.model);
  if (!read.ok()) {
    CHECK(!absl::IsInternal(read.status()) && !absl::IsUnknown(read.status())) << read.status();
    return 0;
  }
  const int64_t vocabulary = worker.model->spec().language.vocabulary;
  for (const int32_t id : read->tokens) CHECK(id >= 0 && id < vocabulary) << id;
  for (const int32_t id : read->sampling.stop_ids) CHECK(id >= 0 && id < vocabulary) << id;
  CHECK(std::isfinite(read->sampling.temperature) && std::isfinite(read->sampling.top_p));
  const auto tokens = static_cast<int64_t>(read->tokens.size());
  CHECK(read->prompt_tokens >= 1 && read->prompt_tokens <= tokens);
  CHECK_LT(tokens, worker.model->max_positions());
  int64_t end = 0;
  for (const SequenceRequest::Span& span : read->spans) {
    CHECK(span.first >= end && span.count >= 1 && span.first + span.count < tokens);
    end = span.first + span.count;
  }
  return 0;
}
