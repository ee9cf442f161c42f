#include "pare/sparsity/sparse_gpt.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "pare/base/testing.h"
#include "pare/sparsity/sparse_gpt_sparsifier.h"
#include "pare/sparsity/testing/small_model.h"
#include "pare/sparsity/wanda_sparsifier.h"
#include "pare/sparsity/weight_norm_sparsifier.h"

namespace pare::sparsity {
namespace {

// Inputs that depend on each other, as a layer's do.
torch::Tensor correlated_inputs(std::int64_t samples, std::int64_t k, std::uint64_t seed) {
  torch::manual_seed(seed);
  return torch::randn({samples, k}).mm(torch::randn({k, k}) / std::sqrt(static_cast<double>(k)) + 0.3 * torch::eye(k));
}

torch::Tensor hessian_of(const torch::Tensor& x) { return x.t().mm(x); }

double output_error(const torch::Tensor& before, const torch::Tensor& after, const torch::Tensor& x) {
  return x.mm((before - after).t()).square().sum(torch::kFloat64).item<double>();
}

// The update of Optimal Brain Surgeon as section 3 of the paper derives it, in double and without the Cholesky factor:
// the inverse Hessian of the columns that are left is computed anew for every column.
struct Reference {
  torch::Tensor weight, mask;
};
Reference reference(const torch::Tensor& weight, const torch::Tensor& hessian, std::int64_t group, std::int64_t kept,
                    std::int64_t shared_rows, std::int64_t segment, double damping) {
  torch::Tensor w = weight.to(torch::kFloat64).clone();
  torch::Tensor mask = torch::ones_like(w);
  torch::Tensor h = hessian.to(torch::kFloat64).clone();
  h.diagonal().add_(damping * h.diagonal().mean());
  const std::int64_t k = w.size(1);
  const auto inverse_from = [&](std::int64_t col) {
    return torch::inverse(h.narrow(0, col, k - col).narrow(1, col, k - col));
  };
  for (std::int64_t begin = 0; begin < k;) {
    const std::int64_t size = std::min(group, segment - begin % segment);
    for (std::int64_t top = 0; top < w.size(0); top += shared_rows) {
      const std::int64_t rows = std::min(shared_rows, w.size(0) - top);
      std::vector<std::pair<double, std::int64_t>> scores;
      for (std::int64_t col = begin; col < begin + size; ++col) {
        const double c = inverse_from(col)[0][0].item<double>();
        const torch::Tensor column = w.narrow(0, top, rows).select(1, col);
        scores.emplace_back((column.square() / c).sum().item<double>(), -col);
      }
      std::sort(scores.begin(), scores.end());
      for (std::int64_t z = 0; z < size - kept; ++z) {
        mask.narrow(0, top, rows).select(1, -scores[static_cast<std::size_t>(z)].second).zero_();
      }
    }
    for (std::int64_t col = begin; col < begin + size; ++col) {
      const torch::Tensor inverse = inverse_from(col);
      const torch::Tensor error = w.select(1, col) * (1 - mask.select(1, col)) / inverse[0][0];
      w.narrow(1, col, k - col).sub_(error.unsqueeze(1) * inverse[0].unsqueeze(0));
      w.select(1, col).mul_(mask.select(1, col));
    }
    begin += size;
  }
  return {w, mask};
}

TEST(SparseGpt, IsOptimalBrainSurgeonColumnByColumn) {
  struct Case {
    const char* pattern;
    std::int64_t rows, k, segment, block;
  };
  std::uint64_t seed = 60;
  for (const Case& c :
       {Case{"2:4", 6, 32, 32, 128}, Case{"2:4", 5, 24, 24, 8}, Case{"2:4", 4, 30, 10, 12}, Case{"1:4", 7, 20, 20, 5},
        Case{"3:8", 3, 32, 16, 16}, Case{"4:2:4", 10, 24, 24, 8}, Case{"16:1:4", 9, 21, 7, 128}}) {
    SCOPED_TRACE(::testing::Message() << c.pattern << " " << c.rows << "x" << c.k << " blocks of " << c.block);
    const torch::Tensor x = correlated_inputs(3 * c.k, c.k, ++seed);
    const torch::Tensor weight = torch::randn({c.rows, c.k});
    const MaskConfig config = MaskConfig::from_pattern(c.pattern);
    const SparseGptResult ours = sparse_gpt(weight, hessian_of(x), c.segment, config, {.block_elems = c.block});
    const Reference expected = reference(weight, hessian_of(x), config.vnm()->m, config.vnm()->n, config.vnm()->v,
                                         c.segment, ObsOptions{}.damping);
    EXPECT_TRUE(torch::equal(ours.mask.to(torch::kFloat64), expected.mask));
    EXPECT_EQ(ours.weight.masked_select(ours.mask == 0).count_nonzero().item<std::int64_t>(), 0);
    // Float32 against double over at most 32 columns of a Hessian with condition about 1e3: 1e3 * 32 * 2^-24 = 2e-3.
    EXPECT_LT((ours.weight.to(torch::kFloat64) - expected.weight).abs().max().item<double>(), 2e-3);
  }
}

TEST(SparseGpt, BlocksOfColumnsOnlyReorderTheArithmetic) {
  const torch::Tensor x = correlated_inputs(400, 96, 7);
  const torch::Tensor weight = torch::randn({32, 96});
  const MaskConfig config = MaskConfig::from_pattern("2:4");
  const SparseGptResult whole = sparse_gpt(weight, hessian_of(x), 96, config, {.block_elems = 96});
  for (const std::int64_t block : {4, 10, 64}) {
    const SparseGptResult blocked = sparse_gpt(weight, hessian_of(x), 96, config, {.block_elems = block});
    EXPECT_TRUE(torch::equal(whole.mask, blocked.mask)) << block;
    EXPECT_TRUE(torch::allclose(whole.weight, blocked.weight, 1e-3, 1e-4)) << block;
  }
}

TEST(SparseGpt, ItsErrorIsWhatTheOutputsLose) {
  const torch::Tensor x = correlated_inputs(1000, 64, 8);
  const torch::Tensor weight = torch::randn({16, 64});
  const SparseGptResult result =
      sparse_gpt(weight, hessian_of(x), 64, MaskConfig::from_pattern("2:4"), {.damping = 1e-6});
  const double measured = output_error(weight, result.weight, x);
  EXPECT_NEAR(result.error / measured, 1.0, 0.01);  // the damping, and float32
}

TEST(SparseGpt, LosesLessThanMasksAlone) {
  const torch::Tensor x = correlated_inputs(600, 64, 9);
  const torch::Tensor weight = torch::randn({48, 64});
  for (const char* pattern : {"2:4", "1:4", "16:2:4"}) {
    const MaskConfig config = MaskConfig::from_pattern(pattern);
    const double by_norm = output_error(weight, weight * weight_norm_mask(weight, config), x);
    const double ours = output_error(weight, sparse_gpt(weight, hessian_of(x), 64, config).weight, x);
    EXPECT_LT(ours, by_norm) << pattern;
  }
}

TEST(SparseGpt, OfSingleElementsTakesTheLevelInEveryBlock) {
  const torch::Tensor x = correlated_inputs(200, 40, 10);
  const torch::Tensor weight = torch::randn({10, 40});
  const SparseGptResult result = sparse_gpt(weight, hessian_of(x), 40, {0.3, {1, 1}, 1}, {.block_elems = 8});
  for (std::int64_t block = 0; block < 40; block += 8) {
    EXPECT_EQ((result.mask.narrow(1, block, 8) == 0).sum().item<std::int64_t>(), 24);
  }
}

TEST(SparseGpt, InputsThatAreAlwaysZeroGoFirst) {
  torch::Tensor x = correlated_inputs(200, 16, 11);
  x.select(1, 3).zero_();
  x.select(1, 4).zero_();
  const SparseGptResult result = sparse_gpt(torch::randn({6, 16}), hessian_of(x), 16, MaskConfig::from_pattern("2:4"));
  EXPECT_EQ(result.mask.select(1, 3).sum().item<double>(), 0.0);
  EXPECT_EQ(result.mask.select(1, 4).sum().item<double>(), 0.0);
}

TEST(SparseGpt, RefusesWhatItCannotDo) {
  const torch::Tensor x = correlated_inputs(50, 8, 12);
  const torch::Tensor h = hessian_of(x);
  const torch::Tensor weight = torch::randn({4, 8});
  const MaskConfig two_four = MaskConfig::from_pattern("2:4");
  EXPECT_PARE_ERROR(sparse_gpt(weight, h, 8, {0.5, {4, 1}, 4}), kInvalidArgument, "block 4x1");
  EXPECT_PARE_ERROR(sparse_gpt(weight, h, 3, two_four), kInvalidArgument, "runs of 3");
  EXPECT_PARE_ERROR(sparse_gpt(weight, hessian_of(x.narrow(1, 0, 4)), 8, two_four), kInvalidArgument, "Hessian");
  EXPECT_PARE_ERROR(sparse_gpt(weight, h, 8, two_four, {.damping = 0.0}), kInvalidArgument, "damping");
  EXPECT_PARE_ERROR(sparse_gpt(weight * NAN, h, 8, two_four), kNumeric, "NaN");
  EXPECT_PARE_ERROR(sparse_gpt(weight, -h, 8, two_four), kNumeric, "singular");
}

TEST(SparseGptSparsifier, PrunesLayerByLayerAndKeepsMoreOfTheOutputsThanWanda) {
  const train::CalibrationSet set{.batches = 4,
                                  .batch =
                                      [](std::int64_t index) {
                                        torch::manual_seed(static_cast<std::uint64_t>(index));
                                        return torch::randn({16, 1, 8, 8}).cumsum(3) / 3.0;
                                      },
                                  .progress = {}};
  const auto error_after = [&](Sparsifier& sparsifier, train::Model& model) {
    model.eval();
    const torch::NoGradGuard no_grad;
    const torch::Tensor before = model.forward(set.batch(0));
    sparsifier.prepare(model);
    sparsifier.calibrate(set);
    sparsifier.step();
    sparsifier.hold_masks();
    for (const SparseGroup& group : sparsifier.groups()) {
      EXPECT_EQ(testing::two_four_violations(model.weight(group.tensor_fqn).masked()), 0);
    }
    return (model.forward(set.batch(0)) - before).square().mean().item<double>();
  };
  const MaskConfig config = MaskConfig::from_pattern("2:4");
  train::Model for_wanda(testing::small_convnet(5));
  WandaSparsifier wanda(config);
  const double wanda_error = error_after(wanda, for_wanda);
  train::Model for_gpt(testing::small_convnet(5));
  const torch::Tensor untouched = for_gpt.weight("fc1.weight").dense().detach().clone();
  SparseGptSparsifier sparse_gpt_sparsifier(config);
  const double gpt_error = error_after(sparse_gpt_sparsifier, for_gpt);
  EXPECT_LT(gpt_error, wanda_error);
  const train::WeightPipeline& fc1 = for_gpt.weight("fc1.weight");
  EXPECT_TRUE(torch::equal(fc1.dense().masked_select(fc1.mask() == 0), untouched.masked_select(fc1.mask() == 0)))
      << "what lies underneath a mask stays";
  EXPECT_FALSE(torch::equal(fc1.dense(), untouched)) << "what is kept makes up for the rest";
}

TEST(SparseGptSparsifier, RefusesPatternsAtTheDoor) {
  EXPECT_PARE_ERROR(SparseGptSparsifier(MaskConfig{0.5, {4, 1}, 4}), kInvalidArgument, "block 4x1");
  train::Model model(testing::small_mlp(1));
  SparseGptSparsifier sparsifier;
  SparseLayerConfig layer;
  layer.tensor_fqn = "fc1.weight";
  layer.sparsity_level = 0.5;
  EXPECT_PARE_ERROR(sparsifier.prepare(model, {layer}), kInvalidArgument, "fc1.weight");
  sparsifier.prepare(model);
  EXPECT_PARE_ERROR(sparsifier.step(), kState, "calibrate()");
}

}  // namespace
}  // namespace pare::sparsity
