// Graphs broken on purpose, one change each. Test-only.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/graph/graph.h"

namespace pare::graph::testing {

[[nodiscard]] inline Node& node_named(Graph& graph, const std::string& name) {
  return *std::find_if(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) { return node.name == name; });
}

struct Mutation {
  const char* what;
  const char* node;  // that the message must name
  ErrorCategory category;
  std::function<void(Graph&)> apply;
  const char* says = "";  // a part of the message, where another check might object to the same graph
};

// The sound graph passes and stays as it is; each mutation of it is refused, and the message names the node.
inline void expect_refused(const Graph& sound, const std::vector<Mutation>& mutations) {
  {
    Graph copy = sound;
    ASSERT_NO_THROW(infer_shapes(copy));
    EXPECT_EQ(copy.values, sound.values);
  }
  for (const Mutation& mutation : mutations) {
    Graph graph = sound;
    mutation.apply(graph);
    try {
      infer_shapes(graph);
      ADD_FAILURE() << "accepted: " << mutation.what;
    } catch (const Error& error) {
      EXPECT_EQ(error.category(), mutation.category) << mutation.what << ": " << error.what();
      EXPECT_NE(error.problem().find(mutation.says), std::string::npos) << mutation.what << ": " << error.what();
      if (*mutation.node != '\0') {
        EXPECT_NE(error.where().find(str_cat("node '", mutation.node, "'")), std::string::npos)
            << mutation.what << ": " << error.what();
      }
    }
  }
}

inline constexpr ErrorCategory kCorrupt = ErrorCategory::kCorruptData;
inline constexpr ErrorCategory kUnsupported = ErrorCategory::kUnsupported;

[[nodiscard]] inline std::function<void(Graph&)> attribute(const std::string& node, const std::string& key,
                                                           Attribute value) {
  return [=](Graph& graph) { node_named(graph, node).attributes[key] = value; };
}

}  // namespace pare::graph::testing
