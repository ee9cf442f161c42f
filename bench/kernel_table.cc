// The rows of the table of goals that concern single kernels: own dense, own sparse and oneDNN on one shape take turns
// in one process. docs/benchmarks.md says how to read the result.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bench/contestants.h"
#include "bench/real_contestants.h"
#include "bench/results.h"
#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::bench {
namespace {

struct Options {
  std::string out = "build/bench/kernel_table.json";
  std::vector<std::string> sections{"gemm", "dram", "conv", "int4", "dynamic", "threads", "noise"};
  std::string match = "*";
  RoundRobinOptions round_robin;
  bool scalar = false;
};

constexpr double kUnset = std::numeric_limits<double>::quiet_NaN();
struct Goal {
  Pattern pattern;
  double at_least = kUnset;
};

const GemmShape kGemmShapes[] = {
    {128, 768, 768}, {128, 3072, 768}, {128, 768, 3072}, {512, 4096, 4096}, {16, 3072, 3072}};
// Layers enough that the sparsest weights are several times a last-level cache of 32 MB.
const GemmShape kDramShapes[] = {{1, 4096, 4096, 8}, {1, 11008, 4096, 4}};
const ConvShape kConvShapes[] = {{56, 64, 64, 3},  {28, 128, 128, 3},  {14, 256, 256, 3},
                                 {7, 512, 512, 3}, {14, 256, 1024, 1}, {56, 64, 256, 1}};

const DepthwiseShape kDepthwiseShapes[] = {{56, 128}, {28, 256}, {14, 512}};

// Weights of 4 bits need twice the layers to pass over the same memory.
const GemmShape kInt4Shapes[] = {{1, 4096, 4096, 16}, {1, 11008, 4096, 8}, {4, 4096, 4096, 16}, {16, 3072, 3072}};
const GemmShape kDynamicShapes[] = {{128, 768, 768}, {128, 3072, 768}, {128, 768, 3072}};

// The entry with the smallest median of those that `eligible` names; -1 if there is none.
template <typename Eligible>
std::ptrdiff_t fastest(const std::vector<Prepared>& contestants, const Times& times, Eligible eligible) {
  std::ptrdiff_t best = -1;
  for (std::size_t i = 0; i < contestants.size(); ++i) {
    if (!eligible(contestants[i])) continue;
    if (best < 0 || median(times[i]) < median(times[static_cast<std::size_t>(best)]))
      best = static_cast<std::ptrdiff_t>(i);
  }
  return best;
}

class Table {
 public:
  explicit Table(Options options) : options_(std::move(options)), isa_(chosen_isa()), onednn_(OneDnn::load_all()) {
    results_.context = build_context();
    for (OneDnn& version : onednn_) {
      if (isa_ == Isa::kAvx2 && !version.limit_to_avx2()) {
        throw Error(ErrorCategory::kUnsupported, "cannot be limited to AVX2", str_cat("oneDNN ", version.version()));
      }
      versions_ += str_cat(versions_.empty() ? "" : ", ", version.version());
    }
    results_.context["oneDNN"] = versions_.empty() ? "not found when this was configured: skipped" : versions_;
    if (isa_ == Isa::kAvx2) prefix_ = "AVX2 forced: ";
  }

  int run() {
    std::printf("%s, %s, instruction set %s, oneDNN %s\n", results_.context["CPU"].c_str(),
                results_.context["compiler"].c_str(), std::string(to_string(isa_)).c_str(),
                results_.context["oneDNN"].c_str());
    std::printf("%-44s %-34s %-54s %6s %6s\n", "work", "ours", "against", "min", "median");
    {
      const PinToOneCore pinned;
      if (wants("gemm")) {
        for (const GemmShape& shape : kGemmShapes) gemm(shape, gemm_goals());
      }
      if (wants("dram") && isa_ != Isa::kAvx2) {
        for (const GemmShape& shape : kDramShapes) gemm(shape, dram_goals());
      }
      if (wants("conv") && isa_ != Isa::kAvx2) {
        for (const ConvShape& shape : kConvShapes) conv(shape);
        for (const DepthwiseShape& shape : kDepthwiseShapes) depthwise(shape);
      }
      if (wants("int4")) {
        for (const GemmShape& shape : kInt4Shapes) int4(shape);
      }
      if (wants("dynamic")) {
        for (const GemmShape& shape : kDynamicShapes) dynamic(shape);
      }
      if (wants("noise")) noise();
    }
    if (wants("threads") && isa_ != Isa::kAvx2) threads();
    if (onednn_.empty()) add_skipped(results_, prefix_ + "every row against oneDNN", "oneDNN is not installed");
    write_part(options_.out, results_);
    std::printf("%s\n", options_.out.c_str());
    return failed_ ? 1 : 0;
  }

 private:
  [[nodiscard]] bool wants(const std::string& section) const {
    return std::find(options_.sections.begin(), options_.sections.end(), section) != options_.sections.end();
  }

  [[nodiscard]] std::vector<Goal> gemm_goals() const {
    if (isa_ == Isa::kAvx2) return {{dense_pattern(), 1.0}, {two_four_pattern(), 1.30}};
    return {{dense_pattern(), 1.0},          {two_four_pattern(), 1.42},     {vnm_pattern(64, 2, 4), 1.85},
            {vnm_pattern(64, 1, 4), 3.5},    {vnm_pattern(64, 1, 8), 6.3},   {vnm_pattern(16, 2, 4), kUnset},
            {vnm_pattern(16, 1, 4), kUnset}, {vnm_pattern(16, 1, 8), kUnset}};
  }
  [[nodiscard]] static std::vector<Goal> dram_goals() {
    return {{dense_pattern(), kUnset}, {two_four_pattern(), 1.50}, {vnm_pattern(64, 2, 4), 1.85}};
  }
  [[nodiscard]] static std::vector<Goal> conv_goals(const ConvShape& shape) {
    std::vector<Goal> goals{{dense_pattern(), 1.0},
                            {two_four_pattern(), shape.kernel == 1 && shape.in_c == 64 ? 1.30 : 1.40}};
    if (shape.kernel == 3) {
      goals.insert(goals.end(),
                   {{vnm_pattern(64, 2, 4), 1.85}, {vnm_pattern(64, 1, 4), 3.5}, {vnm_pattern(64, 1, 8), 6.5}});
    }
    return goals;
  }

  [[nodiscard]] std::string work_name(const std::string& kind, const Pattern& pattern, const std::string& shape) const {
    return str_cat(prefix_, pattern.name, " int8 ", kind, " ", shape);
  }

  // A contestant with wrong results is not timed; one without a kernel of its own for this instruction set would only
  // repeat the scalar code's slowness.
  bool admit(const std::string& work, const Prepared& prepared) {
    for (const std::string& trouble : prepared.trouble) {
      add_skipped(results_, work, "WRONG RESULT: " + trouble);
      failed_ = true;
    }
    if (!prepared.trouble.empty()) return false;
    if (!prepared.is_peer && prepared.isa == Isa::kScalar && !options_.scalar) {
      add_skipped(results_, work, str_cat("no kernel faster than scalar code (", prepared.contestant.name, ")"));
      return false;
    }
    return true;
  }

  [[nodiscard]] static std::vector<Contestant> contestants_of(const std::vector<Prepared>& prepared) {
    std::vector<Contestant> plain;
    for (const Prepared& one : prepared) plain.push_back(one.contestant);
    return plain;
  }
  [[nodiscard]] Times times_of(const std::vector<Prepared>& prepared) const {
    return run_round_robin(contestants_of(prepared), options_.round_robin);
  }

  // Times all that were admitted; a row for every goal whose pattern is among them.
  void time_and_judge(const std::vector<Prepared>& contestants, const std::vector<Goal>& goals, const std::string& kind,
                      const std::string& shape) {
    const std::vector<Contestant> plain = contestants_of(contestants);
    const Times times = times_of(contestants);
    for (const Goal& goal : goals) {
      const bool dense = goal.pattern.name == "dense";
      const std::ptrdiff_t ours = fastest(contestants, times, [&](const Prepared& prepared) {
        return !prepared.is_peer && prepared.pattern.name == goal.pattern.name;
      });
      // Sparse kernels race the best dense one of all, under AVX2 the own one; dense ones race oneDNN.
      const std::ptrdiff_t against = fastest(contestants, times, [&](const Prepared& prepared) {
        return dense ? prepared.is_peer : prepared.pattern.name == "dense" && (isa_ != Isa::kAvx2 || !prepared.is_peer);
      });
      if (ours < 0 || against < 0) continue;
      judge(work_name(kind, goal.pattern, shape), plain, times, ours, against, goal.at_least);
    }
  }

  void judge(const std::string& work, const std::vector<Contestant>& contestants, const Times& times,
             std::ptrdiff_t ours, std::ptrdiff_t against, double at_least) {
    const auto us = static_cast<std::size_t>(ours);
    const auto them = static_cast<std::size_t>(against);
    add_row(results_, {.work = work,
                       .ours = contestants[us].name,
                       .against = contestants[them].name,
                       .ratio = ratio_of(times[us], times[them]),
                       .rounds = static_cast<std::int64_t>(options_.round_robin.rounds),
                       .at_least = at_least == at_least ? std::optional<double>(at_least) : std::nullopt,
                       .ours_us = 1e6 * median(times[us]),
                       .against_us = 1e6 * median(times[them])});
  }

  template <typename Field>
  void shape_of(const Field& field, const std::vector<Goal>& goals, const std::string& kind, const std::string& shape) {
    if (!glob_match(options_.match, str_cat(kind, " ", shape))) return;
    std::vector<Prepared> contestants;
    const Prepared dense = field.own(dense_pattern(), isa_);
    for (const Goal& goal : goals) {
      Prepared own = goal.pattern.name == "dense" ? dense : field.own(goal.pattern, isa_);
      if (admit(work_name(kind, goal.pattern, shape), own)) contestants.push_back(std::move(own));
    }
    for (Prepared& peer : field.peers(onednn_, dense)) {
      if (admit(str_cat(kind, " ", shape), peer)) contestants.push_back(std::move(peer));
    }
    time_and_judge(contestants, goals, kind, shape);
  }

  void gemm(const GemmShape& shape, const std::vector<Goal>& goals) {
    shape_of(GemmField(shape, 1), goals, "GEMM", shape.name());
  }
  void conv(const ConvShape& shape) { shape_of(ConvField(shape, 1), conv_goals(shape), "convolution", shape.name()); }

  void depthwise(const DepthwiseShape& shape) {
    shape_of(DepthwiseField(shape, 1), {{dense_pattern(), 2.0}}, "depthwise convolution", shape.name());
  }

  // 2:4 against dense, and dense against int8 with the same shape; runtimes that know int4 only Python reaches
  // (peers/linear_layers.py).
  void int4(const GemmShape& shape) {
    const std::string name = str_cat(prefix_, "int4 group 32 GEMM ", shape.name());
    if (!glob_match(options_.match, name)) return;
    const RealGemmField field(shape, 1);
    const std::vector<Prepared> racers{field.int4(two_four_pattern(), 32, isa_), field.int4(dense_pattern(), 32, isa_),
                                       GemmField(shape, 1).own(dense_pattern(), isa_)};
    for (const Prepared& racer : racers) {
      if (!admit(name, racer)) return;
    }
    const Times times = times_of(racers);
    judge("2:4 " + name, contestants_of(racers), times, 0, 1, kUnset);
    judge("dense " + name + " against int8", contestants_of(racers), times, 1, 2, kUnset);
  }

  // At most 6 % more time than the product of codes alone.
  void dynamic(const GemmShape& shape) {
    for (const Pattern& pattern : {dense_pattern(), two_four_pattern()}) {
      const std::string work = work_name("GEMM, real to real,", pattern, shape.name());
      if (!glob_match(options_.match, work)) continue;
      const std::vector<Prepared> racers{RealGemmField(shape, 1).dynamic_int8(pattern, isa_),
                                         GemmField(shape, 1).own(pattern, isa_)};
      if (!admit(work, racers[0]) || !admit(work, racers[1])) continue;
      judge(work, contestants_of(racers), times_of(racers), 0, 1, 1.0 / 1.06);
    }
  }

  // What two equal contestants differ by: ratios nearer to 1 than this are no difference.
  void noise() {
    const GemmShape shape{128, 768, 768};
    const GemmField field(shape, 1);
    std::vector<Contestant> twins{field.own(dense_pattern(), isa_).contestant};
    const Prepared first = field.own(dense_pattern(), isa_);
    const Prepared second = field.own(dense_pattern(), isa_);
    twins = {first.contestant, second.contestant};
    const Times times = run_round_robin(twins, options_.round_robin);
    judge(prefix_ + "noise: dense int8 GEMM " + shape.name() + " against itself", twins, times, 0, 1, kUnset);
    const Ratio ratio = results_.rows.back().ratio;
    results_.context[prefix_ + "noise"] =
        str_cat("a kernel against itself: ", ratio.min, " to ", ratio.max, ", median ", ratio.median);
  }

  void threads() {
    if (available_cores() < 2) {
      add_skipped(results_, "2 threads against 1", "this process may run on one core only");
      return;
    }
    ThreadPool pool(2);
    RoundRobinOptions wall = options_.round_robin;
    wall.clock = Clock::kWall;
    for (const GemmShape& shape : kGemmShapes) {
      const GemmField field(shape, 1);
      for (const Pattern& pattern : {dense_pattern(), two_four_pattern()}) {
        const std::string work = str_cat("2 threads: ", work_name("GEMM", pattern, shape.name()));
        if (!glob_match(options_.match, work)) continue;
        const Prepared one = field.own(pattern, isa_);
        const Prepared two = field.own(pattern, isa_, &pool);
        if (!admit(work, one) || !admit(work, two)) continue;
        const std::vector<Contestant> contestants{two.contestant, {"1 thread", one.contestant.run}};
        const Times times = run_round_robin(contestants, wall);
        judge(work, contestants, times, 0, 1, 1.85);
      }
    }
  }

  Options options_;
  Isa isa_;
  std::vector<OneDnn> onednn_;
  std::string versions_;
  std::string prefix_;
  Results results_;
  bool failed_ = false;
};

int run_program(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Times pare's kernels against each other and against oneDNN, taking turns. PARE_ISA forces an instruction set."};
  app.add_option("--out", options.out, "Part file with the rows")->capture_default_str()->type_name("FILE");
  app.add_option("--sections", options.sections, "Which: gemm, dram, conv, int4, dynamic, threads, noise")
      ->delimiter(',')
      ->check(CLI::IsMember(std::set<std::string>{"gemm", "dram", "conv", "int4", "dynamic", "threads", "noise"}))
      ->type_name("A,B,…");
  app.add_option("--match", options.match, "Only work that matches this glob: 'GEMM 128*'")->type_name("GLOB");
  app.add_option("--rounds", options.round_robin.rounds, "Rounds a shape")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str()
      ->type_name("N");
  app.add_flag("--scalar", options.scalar, "Time scalar kernels, too");
  CLI11_PARSE(app, argc, argv);
  return Table(std::move(options)).run();
}

}  // namespace
}  // namespace pare::bench

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // rows appear as they are measured, in a log, too
  try {
    return pare::bench::run_program(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernel_table: error: %s\n", error.what());
    return 1;
  }
}
