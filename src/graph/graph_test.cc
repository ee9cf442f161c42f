#include "pare/graph/graph.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "pare/base/error.h"
#include "pare/graph/builtin.h"

namespace pare::graph {
namespace {

TEST(Graph, LookupsNameTheNearest) {
  const Graph net = builtin("mlp");
  EXPECT_EQ(net.node("fc2").op_type, "Gemm");
  EXPECT_EQ(net.producer_of("relu1.out")->name, "relu1");
  EXPECT_EQ(net.producer_of("input"), nullptr);
  ASSERT_EQ(net.consumers_of("fc1.out").size(), 1U);
  EXPECT_EQ(net.consumers_of("fc1.out")[0]->name, "relu1");
  EXPECT_TRUE(net.consumers_of("logits").empty());
  try {
    (void)net.node("fc22");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), ErrorCategory::kNotFound);
    EXPECT_NE(error.remedy().find("'fc2'"), std::string::npos) << error.what();
  }
  try {
    (void)net.initializer("fc1.wieght");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), ErrorCategory::kNotFound);
    EXPECT_NE(error.remedy().find("'fc1.weight'"), std::string::npos) << error.what();
  }
}

TEST(Graph, AttributesOfAnotherTypeAreErrors) {
  Node node{.name = "n", .op_type = "Conv", .inputs = {}, .output = "o", .attributes = {{"a", std::int64_t{3}}}};
  EXPECT_EQ(node.int_attribute("a", 1), 3);
  EXPECT_EQ(node.int_attribute("b", 1), 1);
  EXPECT_EQ(node.ints_attribute("b", {4, 5}), (std::vector<std::int64_t>{4, 5}));
  EXPECT_THROW((void)node.float_attribute("a", 1.0F), Error);
  EXPECT_THROW((void)node.string_attribute("a", ""), Error);
  EXPECT_THROW((void)node.ints_attribute("a", {}), Error);
}

TEST(Graph, ABufferOwnsWhatItCopied) {
  Buffer buffer;
  {
    std::vector<std::int32_t> items{1, -2, 3};
    buffer = Buffer::copy_of(items);
    items.assign(3, 0);
  }
  const Buffer second = buffer;
  buffer = {};
  ASSERT_EQ(second.as<std::int32_t>().size(), 3U);
  EXPECT_EQ(second.as<std::int32_t>()[1], -2);
}

}  // namespace
}  // namespace pare::graph
