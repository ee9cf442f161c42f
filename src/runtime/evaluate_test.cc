#include "pare/runtime/evaluate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "pare/base/rng.h"
#include "pare/base/testing.h"
#include "pare/graph/testing/random_artifact.h"
#include "pare/runtime/testing/temporary_artifact.h"

namespace pare::runtime {
namespace {

TEST(PredictedClass, IsTheFirstOfTheLargest) {
  EXPECT_EQ(predicted_class(std::vector<float>{-1.0F}), 0);
  EXPECT_EQ(predicted_class(std::vector<float>{0.0F, 3.0F, 1.0F, 3.0F}), 1);
}

TEST(Probabilities, AreTheSoftmaxEvenOfHugeLogits) {
  const std::vector<double> p = probabilities(std::vector<float>{3e38F, 3e38F, -3e38F});
  EXPECT_DOUBLE_EQ(p[0], 0.5);
  EXPECT_DOUBLE_EQ(p[1], 0.5);
  EXPECT_DOUBLE_EQ(p[2], 0.0);
  const std::vector<double> q = probabilities(std::vector<float>{0.0F, 1.0F});
  EXPECT_DOUBLE_EQ(q[1] / q[0], std::exp(1.0));
}

// More images than are run at once, so that the seams are crossed.
TEST(Evaluate, CountsWhatTheLogitsSay) {
  const testing::TemporaryArtifact file(graph::testing::mlp_artifact(31, true));
  Session session = Session::load(file.path(), {.threads = 2, .max_batch = 50});
  constexpr std::int64_t kCount = 2500;
  const std::vector<std::uint8_t> images = testing::random_images(31, kCount, session.input_elems());
  std::vector<float> logits(static_cast<std::size_t>(kCount * session.classes()));
  session.run(images, kCount, logits);
  Rng rng(31);
  std::vector<std::uint8_t> labels;
  std::vector<std::vector<std::int64_t>> confusion(4, std::vector<std::int64_t>(4, 0));
  std::int64_t correct = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    labels.push_back(static_cast<std::uint8_t>(rng.below(4)));
    std::size_t best = 0;
    for (std::size_t c = 1; c < 4; ++c) best = logits[4 * i + c] > logits[4 * i + best] ? c : best;
    ++confusion[labels.back()][best];
    correct += best == labels.back() ? 1 : 0;
  }
  const Evaluation result = evaluate(session, images, labels);
  EXPECT_EQ(result.samples, kCount);
  EXPECT_EQ(result.correct, correct);
  EXPECT_EQ(result.confusion, confusion);
  EXPECT_DOUBLE_EQ(result.accuracy_percent(), static_cast<double>(correct) / 25.0);

  labels[7] = 4;
  EXPECT_PARE_ERROR(evaluate(session, images, labels), kInvalidArgument, "label 4 of image 7");
  labels.pop_back();
  EXPECT_PARE_ERROR(evaluate(session, images, labels), kInvalidArgument, "2499 images");
}

}  // namespace
}  // namespace pare::runtime
