#include "pare/sparsity/global_magnitude_sparsifier.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "pare/base/testing.h"
#include "pare/sparsity/testing/small_model.h"

namespace pare::sparsity {
namespace {

using testing::small_convnet;

TEST(GlobalMagnitude, ThresholdsAllLayersTogether) {
  train::Model model(small_convnet(3));
  GlobalMagnitudeSparsifier sparsifier(GlobalMagnitudeSparsifier::unstructured(0.7));
  sparsifier.prepare(model);
  sparsifier.step();
  std::vector<float> all;
  for (const auto& weight : model.weights()) {
    const torch::Tensor dense = weight->dense().detach().abs().flatten();
    all.insert(all.end(), dense.data_ptr<float>(), dense.data_ptr<float>() + dense.numel());
  }
  std::sort(all.begin(), all.end());
  const auto gone = static_cast<std::size_t>(std::nearbyint(0.7 * static_cast<double>(all.size())));
  const float threshold = all[gone];  // the least that stays; the seeded weights differ from each other around it
  ASSERT_NE(all[gone - 1], threshold);
  double least = 1.0;
  double most = 0.0;
  for (const auto& weight : model.weights()) {
    const torch::Tensor expected = (weight->dense().detach().abs() >= threshold).to(torch::kFloat32);
    EXPECT_TRUE(torch::equal(weight->mask(), expected)) << weight->fqn();
    least = std::min(least, expected.mean().item<double>());
    most = std::max(most, expected.mean().item<double>());
  }
  EXPECT_GT(most, least + 0.1) << "layers with large weights keep more of them";
}

TEST(GlobalMagnitude, OneWeightsUpdateTakesItsShareOfTheRanking) {
  train::Model model(small_convnet(4));
  GlobalMagnitudeSparsifier sparsifier;
  sparsifier.prepare(model);
  sparsifier.step();
  const torch::Tensor before = model.weight("fc1.weight").mask().clone();
  {
    const torch::NoGradGuard no_grad;
    model.weight("fc1.weight").dense().detach().mul_(100.0);
  }
  sparsifier.update_mask("fc1.weight");
  EXPECT_GT(model.weight("fc1.weight").mask().sum().item<double>(), before.sum().item<double>());
}

TEST(GlobalMagnitude, RefusesBlocksAndLevelsThatDiffer) {
  EXPECT_PARE_ERROR(GlobalMagnitudeSparsifier(MaskConfig::from_pattern("2:4")), kInvalidArgument, "single weights");
  train::Model model(small_convnet(5));
  GlobalMagnitudeSparsifier sparsifier;
  SparseLayerConfig other;
  other.tensor_fqn = "fc1.weight";
  other.sparsity_level = 0.9;
  sparsifier.prepare(model, {other});
  EXPECT_PARE_ERROR(sparsifier.step(), kInvalidArgument, "one level");
}

}  // namespace
}  // namespace pare::sparsity
