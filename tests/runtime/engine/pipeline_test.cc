#include "runtime/engine/pipeline.h"

#include <gtest/gtest.h>

#include <future>

#include "tests/runtime/engine/fake_stage.h"
#include "tests/runtime/engine/model_engine.h"

namespace minicpmv {
namespace {

StageResult IssueAndWait(Pipeline& pipeline, int slot) {
  std::promise<StageResult> ended;
  pipeline.Issue(slot, [&](StageResult result) { ended.set_value(std::move(result)); });
  return ended.get_future().get();
}

// One piece whose last row's logits are wanted.
StepBatch BatchOf(const std::vector<int32_t>& tokens, int first,
                  const std::vector<int32_t>& pages) {
  StepBatch batch;
  batch.tokens = tokens;
  for (size_t i = 0; i < tokens.size(); ++i) {
    batch.positions.push_back(first + static_cast<int32_t>(i));
  }
  batch.query_starts = {0, static_cast<int32_t>(tokens.size())};
  batch.pages = pages;
  batch.page_starts = {0, static_cast<int32_t>(pages.size())};
  batch.logit_rows = {static_cast<int32_t>(tokens.size()) - 1};
  return batch;
}

std::vector<float> LogitsOf(const Pipeline& pipeline, int slot) {
  const ConstTensorView logits = pipeline.logits(slot);
  return {logits.as<float>(), logits.as<float>() + logits.shape.elements()};
}

TEST(PipelineTest, CopiesPagesOfEveryLayerBeforeItWrites) {
  const ModelFolder nano(std::string(MINICPMV_SOURCE_DIR) + "/tools/nano/model");
  std::vector<std::unique_ptr<CpuDevice>> devices;
  std::vector<std::unique_ptr<Stage>> stages;
  for (const LayerRange range : {LayerRange{0, 2}, LayerRange{2, 5}}) {
    devices.push_back(std::make_unique<CpuDevice>("cpu", 1));
    DecoderStage::Options options;
    options.layers = range;
    options.pages = 8;
    options.cache_dtype = DType::kBF16;
    options.max_rows = 32;
    options.max_logit_rows = 1;
    stages.push_back(Must(DecoderStage::Load(*nano.checkpoint, nano.spec, *devices.back(),
                                             Must(MakeCpuKernels(*devices.back())), options)));
  }
  PipelineOptions options;
  options.depth = 2;
  options.max_rows = 32;
  options.max_logit_rows = 1;
  options.hidden = nano.spec.language.hidden;
  options.vocabulary = nano.spec.language.vocabulary;
  const auto pipeline = Must(Pipeline::Create(std::move(stages), *devices[0], options));

  std::vector<int32_t> prompt(20);
  for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int32_t>(7 * i + 3);
  pipeline->batch(0) = BatchOf(prompt, 0, {2, 3});
  const StageResult first = IssueAndWait(*pipeline, 0);
  ASSERT_TRUE(first.status.ok());
  EXPECT_GT(first.busy, absl::ZeroDuration());

  // A fork writes position 20 on a copy of the page that holds the end of the prompt.
  pipeline->batch(1) = BatchOf({11}, 20, {2, 6});
  pipeline->copies(1) = {{3, 6}};
  ASSERT_TRUE(IssueAndWait(*pipeline, 1).status.ok());
  const std::vector<float> forked = LogitsOf(*pipeline, 1);
  // The original's page has not been written beyond the prompt: it goes its own way and gets the
  // same.
  pipeline->batch(0) = BatchOf({11}, 20, {2, 3});
  ASSERT_TRUE(IssueAndWait(*pipeline, 0).status.ok());
  EXPECT_EQ(LogitsOf(*pipeline, 0), forked);
  // And what the fork wrote is its own.
  pipeline->copies(1).clear();
  pipeline->batch(1) = BatchOf({12}, 21, {2, 6});
  ASSERT_TRUE(IssueAndWait(*pipeline, 1).status.ok());
  pipeline->batch(0) = BatchOf({12}, 21, {2, 3});
  ASSERT_TRUE(IssueAndWait(*pipeline, 0).status.ok());
  EXPECT_EQ(LogitsOf(*pipeline, 0), LogitsOf(*pipeline, 1));
}

TEST(PipelineTest, AStepThatFailsInOneStageReachesNoOther) {
  FakeStage::Behaviour good;
  FakeStage::Behaviour bad;
  bad.fails_at_step = 0;
  CpuDevice device("cpu:0", 1);
  std::vector<std::unique_ptr<Stage>> stages;
  stages.push_back(std::make_unique<FakeStage>(4, 0, false, good, 1));
  stages.push_back(std::make_unique<FakeStage>(4, 1, false, bad, 2));
  stages.push_back(std::make_unique<FakeStage>(4, 2, true, good, 3));
  PipelineOptions options;
  options.max_rows = 8;
  options.max_logit_rows = 1;
  options.hidden = FakeModel::kHidden;
  options.vocabulary = FakeModel::kVocabulary;
  const auto pipeline = Must(Pipeline::Create(std::move(stages), device, options));
  pipeline->batch(0) = BatchOf({1, 2, 3}, 0, {0});
  const StageResult result = IssueAndWait(*pipeline, 0);
  EXPECT_TRUE(absl::IsUnavailable(result.status));
  EXPECT_EQ(LogitsOf(*pipeline, 0), std::vector<float>(FakeModel::kVocabulary, 0.0f));
}

}  // namespace
}  // namespace minicpmv
