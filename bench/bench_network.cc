// bench_network export|convert: the two ends of how a network of the end-to-end comparison comes to all contestants.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "bench/network.h"

namespace pare::bench {
namespace {

int run_program(int argc, char** argv) {
  std::string network;
  std::string pattern_text = "dense";
  std::uint64_t seed = 1;
  std::filesystem::path folder;
  std::filesystem::path out;
  CLI::App app{"Makes the networks that are compared end to end."};
  app.require_subcommand(1);
  const auto add = [&](const char* name, const char* description) {
    CLI::App* sub = app.add_subcommand(name, description);
    sub->add_option("--network", network, "A built-in network")->required();
    sub->add_option("--pattern", pattern_text, "dense, 2:4 or V:N:M")->capture_default_str();
    sub->add_option("--folder", folder, "Where graph.json, weights.safetensors and activations.json are")->required();
    return sub;
  };
  CLI::App* export_command = add("export", "Writes graph.json and weights.safetensors (float, masked) to the folder");
  export_command->add_option("--seed", seed, "Of the weights")->capture_default_str();
  CLI::App* convert = add("convert", "Makes an artifact of the folder's weights and activations.json");
  convert->add_option("--out", out, "The .pare file")->required();
  CLI11_PARSE(app, argc, argv);

  const SparsityPattern pattern = SparsityPattern::parse(pattern_text);
  graph::Graph graph = float_network(network, seed, pattern);
  if (export_command->parsed()) {
    write_float_network(folder, graph);
    return 0;
  }
  read_weights(folder / "weights.safetensors", graph);
  graph::write_artifact(out, integer_network(graph, read_scales(folder / "activations.json"), pattern));
  return 0;
}

}  // namespace
}  // namespace pare::bench

int main(int argc, char** argv) {
  try {
    return pare::bench::run_program(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_network: error: %s\n", error.what());
    return 1;
  }
}
