#include "services/vision/encode_request.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/slice_rule.h"
#include "services/common/model_identity.h"
#include "services/common/read_prompt.h"

namespace minicpmv::vision {
namespace {

using Spans = google::protobuf::RepeatedPtrField<v1::IndexedSpan>;

Exif ExifOf(const common::v1::MediaOptions& options) {
  return options.exif_orientation() == common::v1::EXIF_ORIENTATION_IGNORE ? Exif::kIgnore
                                                                           : Exif::kApply;
}

// What is checked of all spans of a call.
class SpanReader {
 public:
  SpanReader(const v1::EncodeMediaRequest& request, const ModelSpec& spec)
      : request_(request), spec_(spec), rule_(SliceRuleOf(spec)) {
    const common::v1::MediaOptions* const options = FirstOptions();
    if (options != nullptr) options_ = *options;
  }

  // Of the first span of all; every other one has the same.
  const common::v1::MediaOptions& options() const { return options_; }

  // INVALID_ARGUMENT: options that cannot be.
  absl::StatusOr<SliceRule> Rule() const {
    if (!common::v1::ExifOrientation_IsValid(options_.exif_orientation())) {
      return BadField("spans.span.options.exif_orientation",
                      absl::StrCat("is ", static_cast<int>(options_.exif_orientation())));
    }
    SliceRule rule = rule_;
    if (!options_.has_max_slices()) return rule;
    if (options_.max_slices() < 1 || options_.max_slices() > kMaxSlicePatches) {
      return BadField("spans.span.options.max_slices",
                      absl::StrCat("is ", options_.max_slices(), ": between 1 and ",
                                   kMaxSlicePatches, " is possible"));
    }
    rule.max_slices = static_cast<int>(options_.max_slices());
    return rule;
  }

  // `plan`: of the medium where it is known.
  absl::StatusOr<std::vector<SpanOfSlice>> Read(const Spans& spans, absl::string_view field,
                                                const SliceRule& rule, const SlicePlan* plan) {
    std::vector<SpanOfSlice> read;
    for (int i = 0; i < spans.size(); ++i) {
      const std::string name = absl::StrCat(field, "[", i, "]");
      RETURN_IF_ERROR(CheckSpan(spans[i], name));
      RETURN_IF_ERROR(plan != nullptr ? CheckSlice(spans[i].span().slice(), name, *plan)
                                      : CheckSlice(spans[i].span().slice(), name, rule));
      const common::v1::Slice& slice = spans[i].span().slice();
      read.push_back({spans[i].index(),
                      {RowsKeyOf(request_.scope().cache_scope(), request_.media_digest(), slice,
                                 options_, request_.model_fingerprint()),
                       static_cast<int>(slice.index())},
                      static_cast<int>(slice.patch_columns()),
                      static_cast<int>(slice.patch_rows())});
    }
    return read;
  }

 private:
  const common::v1::MediaOptions* FirstOptions() const {
    if (!request_.spans().empty()) return &request_.spans(0).span().options();
    for (const v1::PixelHelper& helper : request_.held().helpers()) {
      if (!helper.spans().empty()) return &helper.spans(0).span().options();
    }
    return nullptr;
  }

  absl::Status CheckSpan(const v1::IndexedSpan& indexed, const std::string& name) {
    const common::v1::Span& span = indexed.span();
    if (!seen_.insert(indexed.index()).second) {
      return BadField(name + ".index", absl::StrCat("is ", indexed.index(), " as of another span"));
    }
    if (span.rows() != spec_.resampler.queries) {
      return BadField(name + ".span.rows",
                      absl::StrCat("is ", span.rows(), ": a slice of this model has ",
                                   spec_.resampler.queries));
    }
    if (span.media_digest() != request_.media_digest()) {
      return BadField(name + ".span.media_digest", "is not that of the call");
    }
    const common::v1::MediaOptions& options = span.options();
    if (options.has_max_slices() != options_.has_max_slices() ||
        options.max_slices() != options_.max_slices() ||
        options.exif_orientation() != options_.exif_orientation()) {
      return BadField(name + ".span.options", "are not those of the first span");
    }
    if (span.slice().frame() != 0) {
      return BadField(name + ".span.slice.frame", "is not 0: a picture has one frame");
    }
    return absl::OkStatus();
  }

  static absl::Status CheckSlice(const common::v1::Slice& slice, const std::string& name,
                                 const SlicePlan& plan) {
    if (slice.grid_columns() != static_cast<uint32_t>(plan.grid_columns) ||
        slice.grid_rows() != static_cast<uint32_t>(plan.grid_rows)) {
      return BadField(
          name + ".span.slice",
          absl::StrCat("lies in a grid of ", slice.grid_columns(), " x ", slice.grid_rows(),
                       "; this medium is cut into ", plan.grid_columns, " x ", plan.grid_rows));
    }
    if (slice.index() >= static_cast<uint32_t>(plan.sub_images())) {
      return BadField(name + ".span.slice.index",
                      absl::StrCat("is ", slice.index(), " of ", plan.sub_images()));
    }
    const PatchGrid patches = plan.patches(static_cast<int>(slice.index()));
    if (slice.patch_columns() != static_cast<uint32_t>(patches.columns) ||
        slice.patch_rows() != static_cast<uint32_t>(patches.rows)) {
      return BadField(name + ".span.slice",
                      absl::StrCat("has ", slice.patch_columns(), " x ", slice.patch_rows(),
                                   " patches; it is ", patches.columns, " x ", patches.rows));
    }
    return absl::OkStatus();
  }

  // Where the medium is elsewhere: what no medium of this model could be.
  absl::Status CheckSlice(const common::v1::Slice& slice, const std::string& name,
                          const SliceRule& rule) {
    const uint64_t cells = uint64_t{slice.grid_columns()} * slice.grid_rows();
    if ((cells == 0 && (slice.grid_columns() != 0 || slice.grid_rows() != 0)) ||
        cells > static_cast<uint64_t>(rule.max_slices)) {
      return BadField(name + ".span.slice", absl::StrCat("lies in a grid of ", slice.grid_columns(),
                                                         " x ", slice.grid_rows(), "; at most ",
                                                         rule.max_slices, " slices are possible"));
    }
    if (slice.index() > cells) {
      return BadField(name + ".span.slice.index",
                      absl::StrCat("is ", slice.index(), " of ", cells + 1));
    }
    const uint64_t patches = uint64_t{slice.patch_columns()} * slice.patch_rows();
    if (patches < 1 || patches > kMaxPatches) {
      return BadField(name + ".span.slice",
                      absl::StrCat("has ", slice.patch_columns(), " x ", slice.patch_rows(),
                                   " patches: between 1 and ", kMaxPatches, " are possible"));
    }
    patches_ += patches;
    if (patches_ > kMaxSlicePatches + kMaxPatches) {
      return BadField(name, absl::StrCat("brings the patches of the call over ",
                                         kMaxSlicePatches + kMaxPatches));
    }
    return absl::OkStatus();
  }

  const v1::EncodeMediaRequest& request_;
  const ModelSpec& spec_;
  const SliceRule rule_;
  common::v1::MediaOptions options_;
  absl::flat_hash_set<uint32_t> seen_;
  uint64_t patches_ = 0;
};

}  // namespace

absl::StatusOr<EncodePlan> ReadEncodeRequest(const v1::EncodeMediaRequest& request,
                                             const common::v1::ModelIdentity& identity,
                                             const ModelSpec& spec, MediaStore& media) {
  RETURN_IF_ERROR(CheckScope(request.scope()));
  // Rows are sent, not pages: whether layouts agree is seen by the link.
  RETURN_IF_ERROR(
      CheckFingerprints(identity, request.model_fingerprint(), identity.layout_fingerprint()));
  if (request.media_digest().size() != kDigestBytes) {
    return BadField("media_digest", absl::StrCat("has ", request.media_digest().size(),
                                                 " bytes: a SHA-256 has ", kDigestBytes));
  }
  EncodePlan plan;
  plan.request_id = request.scope().request_id();
  plan.cache_scope = request.scope().cache_scope();
  plan.destination = request.destination();
  SpanReader reader(request, spec);
  ASSIGN_OR_RETURN(const SliceRule rule, reader.Rule());
  switch (request.pixels_case()) {
    case v1::EncodeMediaRequest::PIXELS_NOT_SET:
      return BadField("pixels", "is not set");
    case v1::EncodeMediaRequest::kArriving: {
      ASSIGN_OR_RETURN(plan.spans, reader.Read(request.spans(), "spans", rule, nullptr));
      return plan;
    }
    case v1::EncodeMediaRequest::kHeld:
      break;
  }

  MediumToOpen medium;
  medium.medium = media.Find(plan.cache_scope, request.media_digest());
  if (!medium.medium) {
    return absl::NotFoundError("the medium is not held here in this cache scope (any more)");
  }
  medium.exif = ExifOf(reader.options());
  const common::v1::MediaInfo& info = medium.medium->info;
  const bool as_shown = medium.exif == Exif::kApply;
  const Size size = {static_cast<int>(as_shown ? info.width() : info.stored_width()),
                     static_cast<int>(as_shown ? info.height() : info.stored_height())};
  ASSIGN_OR_RETURN(medium.plan, PlanSlices(size, rule));
  ASSIGN_OR_RETURN(plan.spans, reader.Read(request.spans(), "spans", rule, &medium.plan));
  for (int i = 0; i < request.held().helpers_size(); ++i) {
    const v1::PixelHelper& helper = request.held().helpers(i);
    HelperSpans& read = plan.helpers.emplace_back();
    read.destination = helper.destination();
    ASSIGN_OR_RETURN(read.spans,
                     reader.Read(helper.spans(), absl::StrCat("held.helpers[", i, "].spans"), rule,
                                 &medium.plan));
    medium.wants_pixels = medium.wants_pixels || !read.spans.empty();
  }
  plan.medium = std::move(medium);
  return plan;
}

}  // namespace minicpmv::vision
