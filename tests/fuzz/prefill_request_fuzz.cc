// A PrefillPromptRequest from the wire: what is taken the engine may be given as it is, and room
// for its rows is as large as its spans say.
#include <cstdint>

#include "runtime/base/check.h"
#include "services/prefill/prefill_request.h"
#include "services/prefill/rows_arrivals.h"
#include "tests/fuzz/nano_worker.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace minicpmv;
  const NanoWorker& worker = NanoWorker::Get();
  prefill::v1::PrefillPromptRequest request;
  if (!request.ParseFromArray(data, static_cast<int>(size))) return 0;
  worker.SetFingerprints(request);
  const absl::StatusOr<prefill::PrefillJob> job =
      prefill::ReadPrefillRequest(request, worker.identity, *worker.model);
  if (!job.ok()) {
    CHECK(!absl::IsInternal(job.status()) && !absl::IsUnknown(job.status())) << job.status();
    return 0;
  }
  const auto tokens = static_cast<int64_t>(job->request.tokens.size());
  CHECK(job->request.send_from >= 0 && job->request.send_from < tokens - 1);
  CHECK(job->landing.slot != 0);
  static CpuDevice device("cpu", 1);
  const int64_t hidden = worker.model->spec().language.hidden;
  const absl::StatusOr<prefill::RowsArrivals> rows = prefill::RowsArrivals::Create(
      device, job->request.spans, job->request.send_from, hidden, worker.model->row_dtype());
  CHECK(rows.ok()) << rows.status();
  return 0;
}
