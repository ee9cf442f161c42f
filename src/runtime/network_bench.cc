// The built-in networks through a session, dense and 2:4 side by side: time an image, and where it goes by operator.
//   network_bench [rounds]     PARE_ISA chooses the instruction set
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "pare/base/cpu.h"
#include "pare/graph/builtin.h"
#include "pare/graph/testing/quantized_network.h"
#include "pare/runtime/session.h"
#include "pare/runtime/testing/temporary_artifact.h"

namespace pare::runtime {
namespace {

struct Case {
  const char* network;
  std::int64_t channels, extent, batch;
};
constexpr Case kCases[] = {{"small_cnn", 1, 28, 1}, {"small_cnn", 1, 28, 16}, {"resnet18", 3, 32, 1}};

struct Contestant {
  Session session;
  double best = 1e30;  // seconds a run
};

void compare(const Case& one, int rounds) {
  const graph::Graph net = graph::builtin(one.network, 1, one.channels, one.extent, one.extent);
  std::vector<Contestant> both;
  for (const bool two_four : {false, true}) {
    const testing::TemporaryArtifact file(graph::testing::quantized_network(net, two_four));
    both.push_back({Session::load(file.path(), {.threads = 1, .max_batch = one.batch})});
  }
  const std::vector<std::uint8_t> images = testing::random_images(1, one.batch, both[0].session.input_elems());
  std::vector<float> logits(static_cast<std::size_t>(one.batch * both[0].session.classes()));
  for (Contestant& each : both) {
    each.session.run(images, one.batch, logits);
    each.session.enable_profile(true);
  }
  for (int round = 0; round < rounds; ++round) {
    for (Contestant& each : both) {
      const auto start = std::chrono::steady_clock::now();
      each.session.run(images, one.batch, logits);
      each.best = std::min(each.best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
  }
  std::printf("\n%s batch %lld, one thread: dense %.3f ms, 2:4 %.3f ms, 2:4/dense %.2f\n", one.network,
              static_cast<long long>(one.batch), both[0].best * 1e3, both[1].best * 1e3, both[1].best / both[0].best);
  std::printf("  %-28s %12s %12s   (mean us a run)\n", "operator", "dense", "2:4");
  std::map<std::string, double> micros[2];
  for (std::size_t which = 0; which < 2; ++which) {
    const Session& session = both[which].session;
    const std::vector<LayerTime> times = session.profile();
    for (std::size_t i = 0; i < times.size(); ++i) {
      micros[which][session.layers()[i].op_type] += times[i].seconds * 1e6 / rounds;
    }
  }
  for (const auto& [op_type, time] : micros[0]) {
    std::printf("  %-28s %12.1f %12.1f\n", op_type.c_str(), time, micros[1][op_type]);
  }
}

}  // namespace
}  // namespace pare::runtime

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 20;
  std::printf("%s, %s\n", pare::cpu_name().c_str(), std::string(pare::to_string(pare::chosen_isa())).c_str());
  for (const pare::runtime::Case& one : pare::runtime::kCases) pare::runtime::compare(one, rounds);
  return 0;
}
