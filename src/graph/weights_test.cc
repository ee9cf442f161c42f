#include "pare/graph/weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "pare/graph/testing/mixed_artifact.h"
#include "pare/graph/testing/random_artifact.h"

namespace pare::graph {
namespace {

TEST(Weights, GroupOrderPutsInputChannelsLast) {
  // Shape [2, 3, 2, 2]: code = its own row-major index.
  std::vector<std::int8_t> codes(24);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    codes[i] = static_cast<std::int8_t>(i);
  }
  const Shape shape{2, 3, 2, 2};
  const std::vector<std::int8_t> grouped = to_group_order(codes, shape);
  for (std::int64_t o = 0; o < 2; ++o) {
    for (std::int64_t i = 0; i < 3; ++i) {
      for (std::int64_t tap = 0; tap < 4; ++tap) {
        EXPECT_EQ(grouped[static_cast<std::size_t>((o * 4 + tap) * 3 + i)],
                  codes[static_cast<std::size_t>((o * 3 + i) * 4 + tap)]);
      }
    }
  }
  EXPECT_EQ(from_group_order(grouped, shape), codes);
  EXPECT_EQ(to_group_order(codes, {4, 6}), codes);
}

TEST(Weights, TwoFourEncodingKeepsEveryCodeAndZero) {
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    SCOPED_TRACE(seed);
    const Graph packed = testing::random_integer_graph(seed, testing::odd_options(true));
    for (const std::string& name : packed.weight_names()) {
      const Initializer& weight = packed.initializer(name);
      ASSERT_EQ(weight.encoding, Encoding::kTwoFour);
      const Initializer dense = decode_dense(weight);
      const auto codes = dense.data.as<std::int8_t>();
      EXPECT_EQ(static_cast<std::int64_t>(codes.size()), element_count(weight.shape));
      EXPECT_EQ(count_zeros(dense), std::count(codes.begin(), codes.end(), 0));
      EXPECT_EQ(count_zeros(weight), count_zeros(dense));
      EXPECT_EQ(dense.quantization, weight.quantization);
      const Initializer again = encode_two_four(dense);
      EXPECT_TRUE(std::ranges::equal(again.data.bytes(), weight.data.bytes()));
      EXPECT_TRUE(std::ranges::equal(again.indices.bytes(), weight.indices.bytes()));
    }
  }
}

TEST(Weights, VnmEncodingKeepsEveryCodeAndZero) {
  for (const format::VnmPattern& pattern : {format::VnmPattern{64, 2, 4}, {16, 1, 8}}) {
    testing::GraphOptions options = testing::odd_options(false);
    options.vnm = pattern;
    const Artifact artifact = testing::random_artifact(12, options);
    int encoded = 0;
    for (const auto& [name, weight] : artifact.graph.initializers) {
      if (weight.encoding != Encoding::kVnm) continue;
      ++encoded;
      EXPECT_EQ(weight.pattern(), format::to_string(pattern));
      const Initializer dense = decode_dense(weight);
      EXPECT_EQ(codes_in_group_order(dense), codes_in_group_order(weight)) << name;
      EXPECT_EQ(count_zeros(dense), count_zeros(weight)) << name;
      EXPECT_EQ(dense.quantization, weight.quantization) << name;
      EXPECT_EQ(encode_vnm(dense, pattern).data.as<std::int8_t>().size(), weight.data.as<std::int8_t>().size());
    }
    EXPECT_GT(encoded, 2);
  }
}

TEST(Weights, BlockEncodingKeepsEveryCodeAndZero) {
  for (const format::BlockPattern& pattern : {format::BlockPattern{1, 4}, {16, 16}}) {
    testing::GraphOptions options = testing::odd_options(false);
    options.block = pattern;
    const Artifact artifact = testing::random_artifact(13, options);
    int encoded = 0;
    for (const auto& [name, weight] : artifact.graph.initializers) {
      if (weight.encoding != Encoding::kBlock) continue;
      ++encoded;
      EXPECT_EQ(weight.pattern(), format::to_string(pattern));
      const Initializer dense = decode_dense(weight);
      EXPECT_EQ(codes_in_group_order(dense), codes_in_group_order(weight)) << name;
      EXPECT_EQ(count_zeros(dense), count_zeros(weight)) << name;
      const Initializer again = encode_block(dense, pattern);
      EXPECT_TRUE(std::ranges::equal(again.data.bytes(), weight.data.bytes())) << name;
      EXPECT_TRUE(std::ranges::equal(again.indices.bytes(), weight.indices.bytes())) << name;
    }
    EXPECT_GT(encoded, 2);
  }
}

TEST(Weights, TwoFourTakesFiveEighthsOfAByte) {
  const Graph packed = testing::random_integer_graph(4, testing::small_options(true));
  const Initializer& conv2 = packed.initializer("conv2.weight");  // [16, 8, 3, 3]
  EXPECT_EQ(conv2.stored_bytes() * 8, static_cast<std::size_t>(element_count(conv2.shape)) * 5);
  const Initializer& fc2 = packed.initializer("fc2.weight");  // [10, 16]
  EXPECT_EQ(fc2.stored_bytes() * 8, static_cast<std::size_t>(element_count(fc2.shape)) * 5);
}

TEST(Weights, SchemesSayWhatALayerReadsAndItsWeight) {
  const Graph dynamic = testing::dynamic_artifact(1).graph;
  EXPECT_EQ(scheme_of(dynamic, dynamic.node("up")), "dynamic int8 x int4 group 32");
  EXPECT_EQ(scheme_of(dynamic, dynamic.node("sparse")), "dynamic int8 x int4 group 64");
  EXPECT_EQ(scheme_of(dynamic, dynamic.node("dynamic_sparse")), "dynamic int8 x int8");
  const Graph codes = testing::mixed_rows_artifact(1).graph;
  EXPECT_EQ(scheme_of(codes, codes.node("down")), "uint8 x int8");
}

TEST(Weights, TheWorkedExampleOfTheFormatPageHolds) {
  Initializer dense;
  dense.dtype = DType::kS8;
  dense.shape = {1, 6};
  dense.data = Buffer::copy_of(std::vector<std::int8_t>{0, 5, 0, -3, 7, 0});
  const Initializer packed = encode_two_four(dense);
  EXPECT_TRUE(std::ranges::equal(packed.data.as<std::uint8_t>(), std::vector<std::uint8_t>{0x05, 0xFD, 0x07, 0x00}));
  EXPECT_TRUE(std::ranges::equal(packed.indices.as<std::uint8_t>(), std::vector<std::uint8_t>{0x4D}));
}

}  // namespace
}  // namespace pare::graph
