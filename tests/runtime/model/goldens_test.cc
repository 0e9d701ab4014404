// What the original code computed on small checkpoints, against ours: prompt, pixels, rows, every layer, every logit.
#include <algorithm>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/mapped_file.h"
#include "runtime/media/patches.h"
#include "tests/runtime/model/model_fixture.h"

namespace minicpmv {
namespace {

constexpr int kMaxPositions = 768;  // the longest case and its reply

struct GoldenParam {
  std::string folder;
  std::string kernels;
  DType cache;
  double tolerance;
};

class GoldensTest : public ::testing::TestWithParam<GoldenParam> {
 protected:
  struct Case {
    std::vector<Message> messages;
    std::vector<SlicePlan> plans;
    std::vector<Image> sub_images;
    PromptOptions prompt_options;
  };

  GoldensTest()
      : folder_(TestData(absl::StrCat("goldens/", GetParam().folder))),
        model_(absl::StrCat(folder_, "/checkpoint"), GetParam().kernels, 2, GetParam().cache, kMaxPositions),
        golden_(ReadJson(absl::StrCat(folder_, "/cases.json"))),
        tensors_(Must(OpenSafetensors(absl::StrCat(folder_, "/tensors.safetensors")))) {}

  Case Read(const nlohmann::json& golden) {
    Case c;
    const nlohmann::json& options = golden["options"];
    SliceRule rule = {model_.spec.preprocess.scale_resolution, static_cast<int>(model_.spec.vision.patch_size),
                      options.value("max_slice_nums", model_.spec.preprocess.max_slices), model_.spec.preprocess.slice_mode};
    c.prompt_options.image_ids = options.value("use_image_id", model_.spec.preprocess.image_ids);
    if (options.contains("system")) c.messages.push_back({"system", {{options["system"].get<std::string>()}}});
    for (const nlohmann::json& message : golden["messages"]) {
      c.messages.push_back({message["role"].get<std::string>(), {}});
      for (const nlohmann::json& part : message["content"]) {
        if (part.contains("text")) {
          c.messages.back().parts.push_back({part["text"].get<std::string>()});
          continue;
        }
        c.messages.back().parts.push_back({"", true});
        const MappedFile file = Must(MappedFile::Open(absl::StrCat(folder_, "/images/", part["image"].get<std::string>())));
        const Image image = Must(DecodeImage(file.bytes(), Exif::kApply));
        c.plans.push_back(Must(PlanSlices({image.width, image.height}, rule)));
        for (Image& sub_image : CutSubImages(image, c.plans.back())) c.sub_images.push_back(std::move(sub_image));
      }
    }
    return c;
  }

  ConstTensorView Want(const nlohmann::json& golden, absl::string_view what) {
    return Must(tensors_->Find(absl::StrCat(golden["name"].get<std::string>(), ".", what)));
  }
  bool Has(const nlohmann::json& golden, absl::string_view what) {
    return tensors_->Find(absl::StrCat(golden["name"].get<std::string>(), ".", what)).ok();
  }

  std::vector<StepBatch::Span> Spans(const Prompt& prompt, const std::vector<uint8_t>& rows) {
    std::vector<StepBatch::Span> spans;
    const Shape shape = {model_.vision->queries(), model_.spec.language.hidden};
    const size_t bytes = static_cast<size_t>(shape.elements()) * SizeOf(model_.rows_dtype);
    for (size_t i = 0; i < prompt.spans.size(); ++i) {
      spans.push_back({prompt.spans[i].first, ConstTensorView(rows.data() + i * bytes, model_.rows_dtype, shape)});
    }
    return spans;
  }

  // Feeds the golden's own tokens after a prompt and holds the logits before each of them to the golden's.
  void ExpectForcedLogits(const Prompt& prompt, const std::vector<StepBatch::Span>& spans, const std::vector<int32_t>& tokens,
                          ConstTensorView want) {
    std::vector<float> logits = model_.Step(prompt.tokens, 0, spans, 1);
    for (size_t step = 0; step < tokens.size(); ++step) {
      const Shape shape = {1, model_.spec.language.vocabulary};
      EXPECT_LE(Deviation(ConstTensorView(logits.data(), DType::kF32, shape), want.Rows(static_cast<int64_t>(step), 1)),
                GetParam().tolerance)
          << "step " << step;
      logits = model_.Step({tokens[step]}, static_cast<int>(prompt.tokens.size() + step), {}, 1);
    }
  }

  const std::string folder_;
  PlainModel model_;
  const nlohmann::json golden_;
  const std::unique_ptr<Checkpoint> tensors_;
};

TEST_P(GoldensTest, PromptsAreTheOriginals) {
  for (const nlohmann::json& golden : golden_["cases"]) {
    SCOPED_TRACE(golden["name"].get<std::string>());
    const Case c = Read(golden);
    const Prompt prompt = Must(model_.prompts.Build(c.messages, c.plans, c.prompt_options));
    const bool has_tags = golden.contains("input_ids_tags_as_text");
    EXPECT_EQ(prompt.tokens, golden[has_tags ? "input_ids_tags_as_text" : "input_ids"].get<std::vector<int32_t>>());
    if (has_tags) {
      PromptOptions tags = c.prompt_options;
      tags.tags = Tags::kTokens;
      EXPECT_EQ(Must(model_.prompts.Build(c.messages, c.plans, tags)).tokens, golden["input_ids"].get<std::vector<int32_t>>());
    }
    ASSERT_EQ(prompt.spans.size(), golden["image_bounds"].size());
    for (size_t i = 0; i < prompt.spans.size(); ++i) {
      EXPECT_EQ(prompt.spans[i].first, golden["image_bounds"][i][0].get<int>());
      EXPECT_EQ(prompt.spans[i].first + model_.vision->queries(), golden["image_bounds"][i][1].get<int>());
      EXPECT_EQ(c.sub_images[i].height / model_.spec.vision.patch_size, golden["target_sizes"][i][0].get<int>());
      EXPECT_EQ(c.sub_images[i].width / model_.spec.vision.patch_size, golden["target_sizes"][i][1].get<int>());
    }
  }
  EXPECT_EQ(model_.prompts.stop_ids(), golden_["stop_ids"].get<std::vector<int32_t>>());
}

TEST_P(GoldensTest, PixelsAreTheOriginalsToTheBit) {
  const int64_t side = model_.spec.vision.patch_size;
  for (const nlohmann::json& golden : golden_["cases"]) {
    if (!Has(golden, "pixels.0")) continue;
    SCOPED_TRACE(golden["name"].get<std::string>());
    const Image image = Read(golden).sub_images.at(0);
    const int64_t patches = image.width / side * (image.height / side);
    std::vector<float> rows(static_cast<size_t>(patches * 3 * side * side));
    PatchRows(image, static_cast<int>(side), model_.spec.preprocess.mean, model_.spec.preprocess.std, rows.data());
    const ConstTensorView want = Want(golden, "pixels.0");  // [3, side, side * patches]
    ASSERT_EQ(want.shape, (Shape{3, side, side * patches}));
    for (int64_t c = 0; c < 3; ++c) {
      for (int64_t y = 0; y < side; ++y) {
        for (int64_t x = 0; x < side * patches; ++x) {
          ASSERT_EQ(rows[((x / side) * 3 + c) * side * side + y * side + x % side],
                    want.as<float>()[(c * side + y) * side * patches + x]);
        }
      }
    }
  }
}

TEST_P(GoldensTest, RowsLayersAndLogitsAreWithinTheTolerance) {
  for (const nlohmann::json& golden : golden_["cases"]) {
    SCOPED_TRACE(golden["name"].get<std::string>());
    const Case c = Read(golden);
    PromptOptions options = c.prompt_options;
    options.tags = Tags::kTokens;  // the goldens are the original's, which reads tags so
    const Prompt prompt = Must(model_.prompts.Build(c.messages, c.plans, options));
    ActivationCopies copies(*model_.kernels);
    const std::vector<uint8_t> rows = model_.Encode(c.sub_images, &copies);
    if (!c.sub_images.empty() && model_.rows_dtype == DType::kF32) {
      const ConstTensorView want = Want(golden, "rows");
      EXPECT_LE(Deviation(ConstTensorView(rows.data(), DType::kF32, want.shape), want), GetParam().tolerance);
    }
    const std::vector<StepBatch::Span> spans = Spans(prompt, rows);
    const std::vector<float> logits = model_.Step(prompt.tokens, 0, spans, 8, &copies);
    const ConstTensorView want = Want(golden, "prompt_logits");
    EXPECT_LE(Deviation(ConstTensorView(logits.data(), DType::kF32, want.shape), want), GetParam().tolerance);
    for (const auto& [name, values] : copies.all()) {
      if (!Has(golden, name)) continue;
      EXPECT_LE(Deviation(values, Want(golden, name)), GetParam().tolerance) << name;
    }
    ExpectForcedLogits(prompt, spans, golden["greedy"]["tokens"].get<std::vector<int32_t>>(), Want(golden, "greedy_logits"));
  }
}

TEST_P(GoldensTest, ReferenceQuirksMaskExclamationMarks) {
  for (const nlohmann::json& golden : golden_["cases"]) {
    if (!golden.contains("reference_quirks_greedy")) continue;
    const Case c = Read(golden);
    PromptOptions options = c.prompt_options;
    options.drop_token_zero = true;
    const Prompt prompt = Must(model_.prompts.Build(c.messages, c.plans, options));
    const std::vector<uint8_t> rows = model_.Encode(c.sub_images);
    ExpectForcedLogits(prompt, Spans(prompt, rows), golden["reference_quirks_greedy"]["tokens"].get<std::vector<int32_t>>(),
                       Want(golden, "reference_quirks_logits"));
  }
}

std::vector<GoldenParam> Params() {
  std::vector<GoldenParam> params;
  for (const char* folder : {"v26-mini-f32", "v26-mini-bf16", "v26-real-geometry-f32"}) {
    for (const char* kernels : {"reference", "cpu"}) {
      if (std::string(kernels) == "reference" && std::string(folder) == "v26-real-geometry-f32") continue;  // minutes
      params.push_back({folder, kernels, DType::kF32, 5e-5});
    }
    params.push_back({folder, "cpu", DType::kBF16, 1.5e-2});
  }
  return params;
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, GoldensTest, ::testing::ValuesIn(Params()), [](const auto& info) {
  std::string name = absl::StrCat(info.param.folder, "_", info.param.kernels, "_", NameOf(info.param.cache));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace minicpmv
