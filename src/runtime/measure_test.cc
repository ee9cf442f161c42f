#include "pare/runtime/measure.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "pare/base/testing.h"
#include "pare/graph/testing/random_artifact.h"
#include "pare/runtime/testing/temporary_artifact.h"

namespace pare::runtime {
namespace {

TEST(Measure, TimesEveryRoundAndLayer) {
  const testing::TemporaryArtifact file(graph::testing::small_artifact(32, true));
  Session session = Session::load(file.path(), {.threads = 1, .max_batch = 4});
  const Measurement plain = measure(session, {.batch = 4, .rounds = 5});
  EXPECT_EQ(plain.time.of_round.size(), 5U);
  EXPECT_TRUE(plain.layers.empty());
  EXPECT_LE(plain.time.min(), plain.time.median());
  const Measurement by_layer = measure(session, {.batch = 8, .rounds = 3, .by_layer = true});
  ASSERT_EQ(by_layer.layers.size(), session.layers().size());
  for (const LayerProfile& layer : by_layer.layers) EXPECT_EQ(layer.time.of_round.size(), 3U) << layer.layer.name;
  EXPECT_PARE_ERROR(measure(session, {.batch = 0}), kInvalidArgument, "batch");
  EXPECT_PARE_ERROR(measure(session, {.batch = 1, .rounds = 0}), kInvalidArgument, "rounds");
}

TEST(Measure, ChargesLayersForTheirDenseWorkAndTheBytesThatTheyMove) {
  const graph::Artifact artifact = graph::testing::small_artifact(33, true);
  const testing::TemporaryArtifact file(artifact);
  Session session = Session::load(file.path(), {.threads = 2, .max_batch = 8});
  const Measurement result = measure(session, {.batch = 8, .rounds = 3, .by_layer = true});
  ASSERT_GT(result.peak_macs_per_second, 0.0);
  double share = 0.0;
  for (const LayerProfile& profile : result.layers) {
    SCOPED_TRACE(profile.layer.name);
    const double least = profile.time.min();
    EXPECT_EQ(profile.ops_per_second > 0.0, profile.layer.macs > 0);
    EXPECT_DOUBLE_EQ(profile.share_of_peak * 2.0 * result.peak_macs_per_second, profile.ops_per_second);
    EXPECT_DOUBLE_EQ(profile.ops_per_second * std::max(least, 1e-9), static_cast<double>(16 * profile.layer.macs));
    EXPECT_EQ(profile.bytes, 8 * profile.layer.activation_bytes + profile.layer.weight_bytes);
    share += profile.share;
  }
  EXPECT_NEAR(share, 1.0, 1e-9);
  // Raw pixels in, codes out; a matrix product reads and writes vectors.
  const std::int64_t pixels = session.input_elems();
  EXPECT_EQ(result.layers.front().layer.activation_bytes, 2 * pixels);
  const graph::Node& last = artifact.graph.nodes.back();
  const Shape& weight = artifact.graph.initializer(last.inputs[1]).shape;
  EXPECT_EQ(result.layers.back().layer.activation_bytes, weight[1] + 4 * weight[0]);
}

TEST(Seconds, MedianIsTheMiddleOrTheMeanOfTheTwo) {
  EXPECT_DOUBLE_EQ((Seconds{{3.0, 1.0, 2.0}}).median(), 2.0);
  EXPECT_DOUBLE_EQ((Seconds{{4.0, 1.0, 2.0, 8.0}}).median(), 3.0);
  EXPECT_DOUBLE_EQ((Seconds{{4.0, 1.0, 2.0, 8.0}}).min(), 1.0);
}

}  // namespace
}  // namespace pare::runtime
