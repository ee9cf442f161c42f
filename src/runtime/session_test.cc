#include "pare/runtime/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/cpu.h"
#include "pare/base/error.h"
#include "pare/base/rng.h"
#include "pare/base/testing.h"
#include "pare/format/affine.h"
#include "pare/graph/builtin.h"
#include "pare/graph/testing/mixed_artifact.h"
#include "pare/graph/testing/quantized_network.h"
#include "pare/graph/testing/random_artifact.h"
#include "pare/runtime/testing/integer_reference.h"
#include "pare/runtime/testing/temporary_artifact.h"

namespace pare::runtime {
namespace {

using testing::IntegerReference;
using testing::random_images;
using testing::TemporaryArtifact;

struct NamedArtifact {
  std::string name;
  graph::Artifact artifact;
};

// A network whose second layer reads several images' worth of blocks: 1600 = more than a chunk, 70 columns.
graph::testing::GraphOptions wide_options(bool two_four) {
  graph::testing::GraphOptions options;
  options.name = "wide";
  options.image = {4, 20, 20};
  options.convs = {{.channels = 66, .kernel = {1, 1}, .pads = {0, 0, 0, 0}, .pool = 3}};
  options.hidden = {{.features = 70}, {.features = 1}};
  options.classes = 1;
  options.two_four = two_four;
  return options;
}

std::vector<NamedArtifact> artifacts(std::uint64_t seed) {
  std::vector<NamedArtifact> all;
  for (const format::VnmPattern& pattern : {format::VnmPattern{64, 2, 4}, {64, 1, 8}, {16, 1, 4}}) {
    for (graph::testing::GraphOptions options : {graph::testing::odd_options(false), wide_options(false)}) {
      options.vnm = pattern;
      all.push_back({format::to_string(pattern), graph::testing::random_artifact(seed, options)});
    }
  }
  for (const format::BlockPattern& pattern : {format::BlockPattern{1, 4}, {4, 4}, {64, 4}}) {
    for (graph::testing::GraphOptions options : {graph::testing::odd_options(false), wide_options(false)}) {
      options.block = pattern;
      all.push_back({format::to_string(pattern), graph::testing::random_artifact(seed, options)});
    }
  }
  for (const bool two_four : {false, true}) {
    const std::string format = two_four ? " 2:4" : " dense";
    all.push_back({"small" + format, graph::testing::small_artifact(seed, two_four)});
    all.push_back({"odd" + format, graph::testing::odd_artifact(seed, two_four)});
    all.push_back({"residual" + format, graph::testing::residual_artifact(seed, two_four)});
    all.push_back({"depthwise" + format, graph::testing::depthwise_artifact(seed, two_four)});
    all.push_back({"mlp" + format, graph::testing::mlp_artifact(seed, two_four)});
    all.push_back({"wide" + format, graph::testing::random_artifact(seed, wide_options(two_four))});
  }
  return all;
}

std::vector<float> run(Session& session, const std::vector<std::uint8_t>& images, std::int64_t count) {
  std::vector<float> logits(static_cast<std::size_t>(count * session.classes()));
  session.run(images, count, logits);
  return logits;
}

// Sets or clears a variable while it lives.
class ScopedEnvironment {
 public:
  ScopedEnvironment(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    setenv(name, value, 1);
  }
  ~ScopedEnvironment() {
    if (before_) {
      setenv(name_, before_->c_str(), 1);
    } else {
      unsetenv(name_);
    }
  }
  ScopedEnvironment(const ScopedEnvironment&) = delete;
  ScopedEnvironment& operator=(const ScopedEnvironment&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

TEST(Session, EveryValueOfEveryLayerEqualsTheInt64Reference) {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    for (const NamedArtifact& named : artifacts(seed)) {
      SCOPED_TRACE(named.name + ", seed " + std::to_string(seed));
      const TemporaryArtifact file(named.artifact);
      Session session = Session::load(file.path(), {.threads = 2, .max_batch = 3});
      constexpr std::int64_t kCount = 4;
      const std::vector<std::uint8_t> images = random_images(seed, kCount, session.input_elems());
      std::map<std::string, std::vector<std::byte>> taps;
      session.set_tap([&](const Tap& tap) {
        std::vector<std::byte>& all = taps[tap.value];
        all.insert(all.end(), tap.bytes.begin(), tap.bytes.end());
      });
      const std::vector<float> logits = run(session, images, kCount);
      std::map<std::string, std::vector<std::byte>> expected;
      std::vector<float> expected_logits;
      for (std::int64_t image = 0; image < kCount; ++image) {
        const auto values = IntegerReference(named.artifact).run_raw(images.data() + image * session.input_elems());
        for (const auto& [name, value] : values) {
          for (const std::int64_t code : value.codes) expected[name].push_back(static_cast<std::byte>(code));
          const auto bytes = std::as_bytes(std::span(value.reals));
          expected[name].insert(expected[name].end(), bytes.begin(), bytes.end());
        }
        const std::vector<float>& reals = values.at(named.artifact.graph.output).reals;
        expected_logits.insert(expected_logits.end(), reals.begin(), reals.end());
      }
      ASSERT_EQ(taps.size(), expected.size());
      for (const auto& [name, bytes] : expected) EXPECT_EQ(taps.at(name), bytes) << "value " << name;
      EXPECT_EQ(logits, expected_logits);
    }
  }
}

// The networks that benchmarks run, on small images for the reference's sake.
TEST(Session, BuiltinNetworksEqualTheInt64Reference) {
  for (const bool two_four : {false, true}) {
    for (const graph::Graph& net :
         {graph::builtin("small_cnn", 3, 1, 12, 12), graph::builtin("resnet18", 4, 3, 8, 8)}) {
      SCOPED_TRACE(net.name + (two_four ? " 2:4" : " dense"));
      const graph::Artifact artifact = graph::testing::quantized_network(net, two_four);
      const TemporaryArtifact file(artifact);
      Session session = Session::load(file.path(), {.threads = 2, .max_batch = 2});
      const std::vector<std::uint8_t> images = random_images(3, 1, session.input_elems());
      std::map<std::string, std::vector<std::byte>> taps;
      session.set_tap([&](const Tap& tap) { taps[tap.value].assign(tap.bytes.begin(), tap.bytes.end()); });
      const std::vector<float> logits = run(session, images, 1);
      const auto values = IntegerReference(artifact).run_raw(images.data());
      EXPECT_EQ(logits, values.at(artifact.graph.output).reals);
      for (const auto& [name, value] : values) {
        if (value.codes.empty()) continue;
        std::vector<std::byte> expected;
        std::map<std::int64_t, int> histogram;
        for (const std::int64_t code : value.codes) {
          expected.push_back(static_cast<std::byte>(code));
          ++histogram[code];
        }
        EXPECT_EQ(taps.at(name), expected) << "value " << name;
        EXPECT_GE(histogram.size(), 20U) << name << " says little";
      }
    }
  }
}

std::vector<float> random_reals(std::uint64_t seed, std::int64_t count) {
  Rng rng(seed, 78);
  std::vector<float> reals(static_cast<std::size_t>(count));
  for (float& real : reals) real = 3.0F * (2.0F * rng.uniform() - 1.0F);
  return reals;
}

std::vector<NamedArtifact> mixed_artifacts(std::uint64_t seed) {
  return {{"rows", graph::testing::mixed_rows_artifact(seed)},
          {"image", graph::testing::mixed_image_artifact(seed)},
          {"encoder", graph::testing::encoder_artifact(seed)},
          {"dynamic", graph::testing::dynamic_artifact(seed)}};
}

// Float32 and codes in one graph, bit for bit.
TEST(Session, EveryValueOfAMixedGraphEqualsTheReference) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    for (const NamedArtifact& named : mixed_artifacts(seed)) {
      const TemporaryArtifact file(named.artifact);
      constexpr std::int64_t kCount = 3;
      for (const Isa isa : supported_isas()) {
        SCOPED_TRACE(named.name + ", seed " + std::to_string(seed) + ", " + std::string(to_string(isa)));
        const ScopedEnvironment forced("PARE_ISA", std::string(to_string(isa)).c_str());
        Session session = Session::load(file.path(), {.threads = 2, .max_batch = 2});
        const std::vector<float> input = random_reals(seed, kCount * session.input_elems());
        std::map<std::string, std::vector<std::byte>> taps;
        session.set_tap([&](const Tap& tap) {
          std::vector<std::byte>& all = taps[tap.value];
          all.insert(all.end(), tap.bytes.begin(), tap.bytes.end());
        });
        std::vector<float> output(static_cast<std::size_t>(kCount * session.classes()));
        session.run(std::span<const float>(input), kCount, output);
        std::map<std::string, std::vector<std::byte>> expected;
        std::vector<float> expected_output;
        const IntegerReference reference(named.artifact);
        for (auto first = input.begin(); first != input.end(); first += session.input_elems()) {
          const auto values = reference.run_reals({first, first + session.input_elems()});
          for (const auto& [name, value] : values) {
            for (const std::int64_t code : value.codes) expected[name].push_back(static_cast<std::byte>(code));
            const auto bytes = std::as_bytes(std::span(value.reals));
            expected[name].insert(expected[name].end(), bytes.begin(), bytes.end());
            EXPECT_GT(
                std::set<std::int64_t>(value.codes.begin(), value.codes.end()).size() + (value.codes.empty() ? 4 : 0),
                3U)
                << name << " says little";
          }
          const std::vector<float>& reals = values.at(named.artifact.graph.output).reals;
          expected_output.insert(expected_output.end(), reals.begin(), reals.end());
        }
        ASSERT_EQ(taps.size(), expected.size());
        for (const auto& [name, bytes] : expected) EXPECT_EQ(taps.at(name), bytes) << "value " << name;
        EXPECT_EQ(output, expected_output);
      }
    }
  }
}

TEST(Session, AnInputThatIsNoImageIsFloat32) {
  const TemporaryArtifact file(graph::testing::mixed_rows_artifact(4));
  Session session = Session::load(file.path(), {.threads = 1});
  EXPECT_FALSE(session.takes_images());
  EXPECT_EQ(session.input_shape(), (Shape{5, 12}));
  EXPECT_EQ(session.output_shape(), (Shape{5, 12}));
  EXPECT_EQ(session.classes(), 60);
  const std::vector<std::uint8_t> pixels(60);
  std::vector<float> output(60);
  EXPECT_PARE_ERROR(session.run(pixels, 1, output), kInvalidArgument, "float32 [5, 12]");
}

// Else the comparison above would say little.
// A network whose codes are nearly all alike would hide errors. Random ones may have such a layer, but not many.
TEST(Session, FewLayersOfTheTestNetworksSaturate) {
  int values = 0;
  int saturated = 0;
  for (const NamedArtifact& named : artifacts(1)) {
    const std::vector<std::uint8_t> image = random_images(1, 1, 1600);
    for (const auto& [name, value] : IntegerReference(named.artifact).run_raw(image.data())) {
      if (value.codes.size() < 16) continue;
      ++values;
      if (std::set<std::int64_t>(value.codes.begin(), value.codes.end()).size() < 5) ++saturated;
    }
  }
  EXPECT_GT(values, 50);
  EXPECT_LE(20 * saturated, values);
}

TEST(Session, NormalizedImagesGiveTheSameAsRawOnes) {
  for (const NamedArtifact& named : artifacts(5)) {
    SCOPED_TRACE(named.name);
    const TemporaryArtifact file(named.artifact);
    Session session = Session::load(file.path(), {.threads = 1, .max_batch = 2});
    const std::vector<std::uint8_t> images = random_images(5, 5, session.input_elems());
    const std::int64_t pixels = session.input_shape()[1] * session.input_shape()[2];
    std::vector<float> normalized;
    for (std::size_t i = 0; i < images.size(); ++i) {
      const std::size_t channel =
          i / static_cast<std::size_t>(pixels) % static_cast<std::size_t>(session.input_shape()[0]);
      normalized.push_back(format::normalize_pixel(images[i], named.artifact.preprocessing.mean[channel],
                                                   named.artifact.preprocessing.std[channel]));
    }
    std::vector<float> logits(static_cast<std::size_t>(5 * session.classes()));
    session.run(std::span<const float>(normalized), 5, logits);
    EXPECT_EQ(logits, run(session, images, 5));
  }
}

TEST(Session, SlicesOfABatchEqualOneByOne) {
  for (const NamedArtifact& named : artifacts(6)) {
    SCOPED_TRACE(named.name);
    const TemporaryArtifact file(named.artifact);
    Session one = Session::load(file.path(), {.threads = 1, .max_batch = 1});
    constexpr std::int64_t kCount = 13;
    const std::vector<std::uint8_t> images = random_images(6, kCount, one.input_elems());
    const std::vector<float> expected = run(one, images, kCount);
    for (const std::int64_t max_batch : {2, 5, 13, 64}) {
      Session session = Session::load(file.path(), {.threads = 2, .max_batch = max_batch});
      EXPECT_EQ(run(session, images, kCount), expected) << "max_batch " << max_batch;
    }
  }
}

TEST(Session, ThreadsDoNotChangeABit) {
  for (const NamedArtifact& named : artifacts(7)) {
    SCOPED_TRACE(named.name);
    const TemporaryArtifact file(named.artifact);
    Session one = Session::load(file.path(), {.threads = 1, .max_batch = 40});
    const std::vector<std::uint8_t> images = random_images(7, 40, one.input_elems());
    const std::vector<float> expected = run(one, images, 40);
    for (const std::size_t threads : {2, 3, 8}) {
      Session session = Session::load(file.path(), {.threads = threads, .max_batch = 40});
      ASSERT_EQ(session.threads(), threads);
      for (int repeat = 0; repeat < 3; ++repeat) EXPECT_EQ(run(session, images, 40), expected) << threads << " threads";
    }
  }
}

TEST(Session, TapsComeForEveryNodeOfEverySliceWithShapeAndType) {
  const graph::Artifact artifact = graph::testing::odd_artifact(8, true);
  const TemporaryArtifact file(artifact);
  Session session = Session::load(file.path(), {.threads = 1, .max_batch = 2});
  std::vector<std::string> seen;
  session.set_tap([&](const Tap& tap) {
    const graph::Value& value = artifact.graph.values.at(tap.value);
    Shape shape = value.shape;
    shape[0] = seen.size() < artifact.graph.nodes.size() ? 2 : 1;
    EXPECT_EQ(tap.shape, shape) << tap.value;
    EXPECT_EQ(tap.dtype, value.dtype) << tap.value;
    EXPECT_EQ(tap.bytes.size(), static_cast<std::size_t>(element_count(shape)) * size_bytes(value.dtype));
    seen.push_back(tap.value);
  });
  const std::vector<std::uint8_t> images = random_images(8, 3, session.input_elems());
  (void)run(session, images, 3);
  std::vector<std::string> expected;
  for (int slice = 0; slice < 2; ++slice) {
    for (const graph::Node& node : artifact.graph.nodes) expected.push_back(node.output);
  }
  EXPECT_EQ(seen, expected);
  session.set_tap({});
  (void)run(session, images, 3);
  EXPECT_EQ(seen, expected);
}

TEST(Session, DescribesItsPlan) {
  const graph::Artifact artifact = graph::testing::small_artifact(9, true);
  const TemporaryArtifact file(artifact);
  const Session session = Session::load(file.path(), {.threads = 1, .max_batch = 4});
  EXPECT_EQ(session.input_shape(), (Shape{1, 12, 12}));
  EXPECT_EQ(session.input_elems(), 144);
  EXPECT_EQ(session.classes(), 10);
  EXPECT_EQ(session.class_names(), artifact.class_names);
  ASSERT_EQ(session.layers().size(), artifact.graph.nodes.size());
  for (std::size_t i = 0; i < session.layers().size(); ++i) {
    const PlannedLayer& layer = session.layers()[i];
    const graph::Node& node = artifact.graph.nodes[i];
    EXPECT_EQ(layer.name, node.name);
    EXPECT_EQ(layer.op_type, node.op_type);
    Shape shape = artifact.graph.values.at(node.output).shape;
    shape.erase(shape.begin());
    EXPECT_EQ(layer.output_shape, shape);
    EXPECT_EQ(layer.weight_bytes > 0, node.has_weight()) << node.name;
    EXPECT_EQ(layer.macs > 0, node.has_weight()) << node.name;
    EXPECT_FALSE(layer.kernel.empty()) << node.name;
  }
  const PlannedLayer& conv2 = session.layers()[3];
  EXPECT_EQ(conv2.name, "conv2");
  const Shape& weight = artifact.graph.initializer("conv2.weight").shape;
  const Shape& window = conv2.output_shape;
  EXPECT_EQ(conv2.macs, element_count(weight) * window[1] * window[2]);
  EXPECT_EQ(conv2.pattern, "2:4");
  EXPECT_NE(conv2.kernel.find("_dense_"), std::string::npos);
  // Eight input channels are too few for a tap of their own, whatever the instruction set.
  EXPECT_TRUE(conv2.note.starts_with("stored 2:4, run dense: ")) << conv2.note;
}

TEST(Session, SaysWhyZerosAreNotUsed) {
  const ScopedEnvironment forced("PARE_ISA", "scalar");
  const TemporaryArtifact file(graph::testing::small_artifact(9, true));
  const Session session = Session::load(file.path(), {.threads = 1, .max_batch = 4});
  EXPECT_EQ(session.layers()[3].note, "stored 2:4, run dense: scalar code gains nothing from the zeros");
}

TEST(Session, ArenaIsSmallerThanAllActivationsTogether) {
  const graph::Artifact artifact = graph::testing::small_artifact(10, false);
  const TemporaryArtifact file(artifact);
  std::size_t all = 0;
  for (const graph::Node& node : artifact.graph.nodes) {
    Shape shape = artifact.graph.values.at(node.output).shape;
    shape[0] = 8;
    all += static_cast<std::size_t>(element_count(shape)) * size_bytes(artifact.graph.values.at(node.output).dtype);
  }
  const Session session = Session::load(file.path(), {.threads = 1, .max_batch = 8});
  EXPECT_LT(session.arena_bytes(), all);
  EXPECT_GT(session.arena_bytes(), 0U);
}

TEST(Session, ProfileCountsCallsOfEveryLayerOnceEnabled) {
  const TemporaryArtifact file(graph::testing::small_artifact(11, false));
  Session session = Session::load(file.path(), {.threads = 1, .max_batch = 2});
  const std::vector<std::uint8_t> images = random_images(11, 5, session.input_elems());
  (void)run(session, images, 5);
  for (const LayerTime& time : session.profile()) EXPECT_EQ(time.calls, 0);
  session.enable_profile(true);
  (void)run(session, images, 5);
  ASSERT_EQ(session.profile().size(), session.layers().size());
  for (const LayerTime& time : session.profile()) EXPECT_EQ(time.calls, 3) << time.name;
  session.enable_profile(true);
  for (const LayerTime& time : session.profile()) EXPECT_EQ(time.calls, 0) << "enabling anew resets";
}

TEST(Session, CanBeMoved) {
  const TemporaryArtifact file(graph::testing::mlp_artifact(12, false));
  Session first = Session::load(file.path(), {.threads = 2});
  const std::vector<std::uint8_t> images = random_images(12, 2, first.input_elems());
  const std::vector<float> expected = run(first, images, 2);
  Session second = std::move(first);
  EXPECT_EQ(run(second, images, 2), expected);
}

TEST(Session, WrongSizesAreRefused) {
  const TemporaryArtifact file(graph::testing::mlp_artifact(13, false));
  Session session = Session::load(file.path(), {.threads = 1});
  std::vector<std::uint8_t> images(static_cast<std::size_t>(2 * session.input_elems()));
  std::vector<float> logits(static_cast<std::size_t>(2 * session.classes()));
  const std::span<const std::uint8_t> x(images);
  const std::span<float> y(logits);
  const auto run_with = [&](std::span<const std::uint8_t> in, std::int64_t count, std::span<float> out) {
    session.run(in, count, out);
    return 0;
  };
  EXPECT_PARE_ERROR(run_with(x.first(x.size() - 1), 2, y), kInvalidArgument, "59 input numbers for 2 images");
  EXPECT_PARE_ERROR(run_with(x, 2, y.first(y.size() - 1)), kInvalidArgument, "room for 7 logits");
  EXPECT_PARE_ERROR(run_with(x, 1, y), kInvalidArgument, "60 input numbers for 1 images");
  EXPECT_PARE_ERROR(run_with(x, -2, y), kInvalidArgument, "-2 images");
  EXPECT_PARE_ERROR(run_with(x, INT64_MAX, y), kInvalidArgument, "");
  EXPECT_PARE_ERROR(run_with({}, std::int64_t{1} << 62, {}), kInvalidArgument, "");
  run_with(x.first(0), 0, y.first(0));  // an empty batch is fine
  run_with(x, 2, y);
}

TEST(Session, ImpossibleOptionsAreRefused) {
  const TemporaryArtifact file(graph::testing::mlp_artifact(14, false));
  const auto load = [&](std::size_t threads, std::int64_t max_batch) {
    return Session::load(file.path(), {.threads = threads, .max_batch = max_batch}).threads();
  };
  EXPECT_PARE_ERROR(load(1, 0), kInvalidArgument, "max_batch = 0");
  EXPECT_PARE_ERROR(load(1, -3), kInvalidArgument, "max_batch = -3");
  EXPECT_PARE_ERROR(load(1, std::int64_t{1} << 40), kInvalidArgument, "1 to 65536");
  EXPECT_PARE_ERROR(load(100000, 1), kInvalidArgument, "100000 threads");
}

// 2^26 numbers an image times the largest batch.
TEST(Session, AnAbsurdArenaIsRefused) {
  graph::testing::GraphOptions options;
  options.image = {1, 2048, 2048};
  options.convs = {{.channels = 16, .kernel = {1, 1}, .pads = {0, 0, 0, 0}, .pool = 512}};
  const TemporaryArtifact file(graph::testing::random_artifact(14, options));
  EXPECT_PARE_ERROR(Session::load(file.path(), {.threads = 1, .max_batch = 65536}).threads(), kInvalidArgument,
                    "lower max_batch");
}

TEST(Session, MissingAndDamagedFilesAreRefused) {
  const TemporaryArtifact file(graph::testing::small_artifact(15, true));
  EXPECT_PARE_ERROR(Session::load(file.path().string() + ".not").threads(), kNotFound, "model.pare.not");
  const std::string bytes = pare::testing::get_file(file.path());
  ASSERT_GT(bytes.size(), 1000U);
  const std::filesystem::path damaged = file.path().string() + ".damaged";
  const auto load_of = [&](const std::string& contents) {
    pare::testing::put_file(damaged, contents);
    return pare::testing::error_of([&] { return Session::load(damaged).threads(); });
  };
  Rng rng(15);
  for (int i = 0; i < 60; ++i) {
    std::string flipped = bytes;
    const std::uint64_t bit = rng.below(8 * bytes.size());
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const std::optional<Error> error = load_of(flipped);
    ASSERT_TRUE(error.has_value()) << "bit " << bit;
    EXPECT_TRUE(error->category() == ErrorCategory::kCorruptData || error->category() == ErrorCategory::kUnsupported)
        << "bit " << bit << ": " << error->what();
  }
  for (const std::size_t length :
       {std::size_t{0}, std::size_t{7}, std::size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
    EXPECT_TRUE(pare::testing::is_error(load_of(bytes.substr(0, length)), ErrorCategory::kCorruptData, "model.pare"))
        << length << " bytes";
  }
}

TEST(Session, PareIsaForcesTheInstructionSet) {
  const TemporaryArtifact file(graph::testing::small_artifact(17, true));
  Session best = Session::load(file.path(), {.threads = 1});
  const std::vector<std::uint8_t> images = random_images(17, 2, best.input_elems());
  const std::vector<float> expected = run(best, images, 2);
  for (const Isa isa : supported_isas()) {
    const ScopedEnvironment forced("PARE_ISA", std::string(to_string(isa)).c_str());
    Session session = Session::load(file.path(), {.threads = 1});
    for (const PlannedLayer& layer : session.layers()) {
      if (isa == Isa::kScalar) {
        EXPECT_NE(layer.kernel.find("_scalar"), std::string::npos) << layer.kernel;
      }
    }
    EXPECT_EQ(run(session, images, 2), expected) << to_string(isa);
  }
  const ScopedEnvironment bogus("PARE_ISA", "bogus");
  EXPECT_PARE_ERROR(Session::load(file.path()).threads(), kInvalidArgument, "'bogus'");
}

TEST(Session, AnInstructionSetThatTheMachineLacksIsAnError) {
  const TemporaryArtifact file(graph::testing::small_artifact(18, true));
  const std::vector<Isa> here = supported_isas();
  int lacking = 0;
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512Vnni, Isa::kAvx512Vbmi, Isa::kNeonDotprod, Isa::kNeonI8mm}) {
    if (std::find(here.begin(), here.end(), isa) != here.end()) continue;
    ++lacking;
    const ScopedEnvironment forced("PARE_ISA", std::string(to_string(isa)).c_str());
    EXPECT_PARE_ERROR(Session::load(file.path()).threads(), kUnsupported, to_string(isa));
  }
  EXPECT_GT(lacking, 0) << "no machine has both AVX and NEON";
}

}  // namespace
}  // namespace pare::runtime
