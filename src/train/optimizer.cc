#include "pare/train/optimizer.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <type_traits>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/train/optimizer_step.h"

namespace pare::train {
namespace {

constexpr const char* kOptimizer = "optimizer";
constexpr const char* kSchedule = "schedule";

void require(bool holds, const char* where, const std::string& problem, const std::string& remedy) {
  if (!holds) {
    throw Error(ErrorCategory::kInvalidArgument, problem, where, remedy);
  }
}

using Group = torch::optim::OptimizerParamGroup;

constexpr std::int64_t kGrainElems = 16384;
constexpr char kMagic[] = "pare optimizer 1\n";

// Moments of one parameter; undefined where the rule has none.
struct Moments {
  std::int64_t steps = 0;
  torch::Tensor first;
  torch::Tensor second;
};

using Rule = OptimizerOptions;  // inside GroupOptions the longer name means LibTorch's class

// The options of one parameter group, where LibTorch's interface expects them.
struct GroupOptions : torch::optim::OptimizerCloneableOptions<GroupOptions> {
  explicit GroupOptions(const Rule& options) : values(options) {}
  [[nodiscard]] double get_lr() const override { return values.lr; }
  void set_lr(const double lr) override { values.lr = lr; }
  Rule values;
};

class OnePassOptimizer : public torch::optim::Optimizer {
 public:
  OnePassOptimizer(std::vector<Group> groups, const OptimizerOptions& options)
      : Optimizer(std::move(groups), std::make_unique<GroupOptions>(options)), kind_(options.kind) {
    const torch::NoGradGuard no_gradient;
    for (const Group& group : param_groups_) {
      for (const torch::Tensor& parameter : group.params()) {
        Moments moments;
        if (kind_ != OptimizerKind::kSgd || options.momentum != 0.0) {
          moments.first = torch::zeros_like(parameter, torch::MemoryFormat::Contiguous);
        }
        if (kind_ != OptimizerKind::kSgd) {
          moments.second = torch::zeros_like(parameter, torch::MemoryFormat::Contiguous);
        }
        moments_.push_back(std::move(moments));
      }
    }
  }

  torch::Tensor step(LossClosure closure = nullptr) override {
    torch::Tensor loss;
    if (closure) {
      const torch::AutoGradMode gradient(true);
      loss = closure();
    }
    const torch::NoGradGuard no_gradient;
    std::size_t index = 0;
    for (Group& group : param_groups_) {
      const OptimizerOptions& options = static_cast<const GroupOptions&>(group.options()).values;
      for (torch::Tensor& parameter : group.params()) {
        Moments& moments = moments_[index++];
        if (parameter.grad().defined()) {
          update(parameter, parameter.grad(), moments, options);
        }
      }
    }
    return loss;
  }

  [[nodiscard]] std::string save_state() const {
    std::string bytes = kMagic;
    append(bytes, static_cast<std::int64_t>(kind_));
    append(bytes, static_cast<std::int64_t>(moments_.size()));
    for (const Moments& moments : moments_) {
      append(bytes, moments.steps);
      for (const torch::Tensor& moment : {moments.first, moments.second}) {
        append(bytes, moment.defined() ? moment.numel() : 0);
        if (moment.defined()) {
          const torch::Tensor plain = moment.to(torch::kCPU);
          bytes.append(static_cast<const char*>(plain.data_ptr()), plain.nbytes());
        }
      }
    }
    return bytes;
  }

  void load_state(const std::string& bytes) {
    Reader reader{bytes};
    if (bytes.compare(0, sizeof(kMagic) - 1, kMagic) != 0) {
      throw_corrupt("not an optimizer's state");
    }
    reader.at = sizeof(kMagic) - 1;
    if (reader.integer() != static_cast<std::int64_t>(kind_)) {
      throw_corrupt("state of another kind of optimizer");
    }
    if (reader.integer() != static_cast<std::int64_t>(moments_.size())) {
      throw_corrupt("state for another number of parameters");
    }
    std::vector<Moments> loaded;
    for (const Moments& own : moments_) {
      Moments moments;
      moments.steps = reader.integer();
      if (moments.steps < 0) {
        throw_corrupt("negative count of steps");
      }
      moments.first = reader.moment(own.first);
      moments.second = reader.moment(own.second);
      loaded.push_back(std::move(moments));
    }
    if (reader.at != bytes.size()) {
      throw_corrupt("surplus bytes");
    }
    moments_ = std::move(loaded);
  }

 private:
  [[noreturn]] static void throw_corrupt(const std::string& problem) {
    throw Error(ErrorCategory::kCorruptData, problem, "state of an optimizer",
                "it comes from another model, or from another stage of the recipe");
  }

  static void append(std::string& bytes, std::int64_t value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }

  struct Reader {
    const std::string& bytes;
    std::size_t at = 0;

    void take(void* to, std::size_t count) {
      if (bytes.size() - at < count) {
        throw_corrupt("truncated");
      }
      std::memcpy(to, bytes.data() + at, count);
      at += count;
    }
    std::int64_t integer() {
      std::int64_t value = 0;
      take(&value, sizeof(value));
      return value;
    }
    torch::Tensor moment(const torch::Tensor& own) {
      if (integer() != (own.defined() ? own.numel() : 0)) {
        throw_corrupt("moments of another size than the parameter's");
      }
      if (!own.defined()) {
        return {};
      }
      torch::Tensor loaded = torch::empty(own.sizes(), torch::kFloat32);
      take(loaded.data_ptr(), loaded.nbytes());
      return loaded.to(own.device());
    }
  };

  void update(torch::Tensor& parameter, const torch::Tensor& gradient, Moments& moments,
              const OptimizerOptions& options) {
    ++moments.steps;
    if (kind_ == OptimizerKind::kSgd) {
      const SgdCoefficients c{static_cast<float>(options.lr), static_cast<float>(options.weight_decay),
                              static_cast<float>(options.momentum), options.nesterov, moments.steps == 1};
      for_each_range(
          parameter, gradient, moments,
          [&c](float* p, const float* g, float* m, float*, std::int64_t elems) { sgd_step(p, g, m, elems, c); });
      return;
    }
    const bool decoupled = kind_ == OptimizerKind::kAdamW;
    const auto t = static_cast<double>(moments.steps);
    const AdamCoefficients c{static_cast<float>(decoupled ? 1.0 - options.lr * options.weight_decay : 1.0),
                             static_cast<float>(decoupled ? 0.0 : options.weight_decay),
                             static_cast<float>(options.beta1),
                             static_cast<float>(1.0 - options.beta1),
                             static_cast<float>(options.beta2),
                             static_cast<float>(1.0 - options.beta2),
                             static_cast<float>(options.lr / (1.0 - std::pow(options.beta1, t))),
                             static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(options.beta2, t))),
                             static_cast<float>(options.eps)};
    for_each_range(
        parameter, gradient, moments,
        [&c](float* p, const float* g, float* m, float* v, std::int64_t elems) { adam_step(p, g, m, v, elems, c); });
  }

  // Calls body(parameter, gradient, first moment, second moment, elems) on ranges, in parallel. A parameter on another
  // device takes the way through the CPU's memory.
  template <typename Body>
  static void for_each_range(torch::Tensor& parameter, const torch::Tensor& gradient, Moments& moments,
                             const Body& body) {
    const auto on_cpu = [](const torch::Tensor& t) { return t.defined() ? t.to(torch::kCPU).contiguous() : t; };
    torch::Tensor p = on_cpu(parameter.detach());
    const torch::Tensor g = on_cpu(gradient);
    torch::Tensor m = on_cpu(moments.first);
    torch::Tensor v = on_cpu(moments.second);
    float* const p_data = p.data_ptr<float>();
    const float* const g_data = g.data_ptr<float>();
    float* const m_data = m.defined() ? m.data_ptr<float>() : nullptr;
    float* const v_data = v.defined() ? v.data_ptr<float>() : nullptr;
    at::parallel_for(0, p.numel(), kGrainElems, [&](std::int64_t begin, std::int64_t end) {
      body(p_data + begin, g_data + begin, m_data == nullptr ? nullptr : m_data + begin,
           v_data == nullptr ? nullptr : v_data + begin, end - begin);
    });
    const auto write_back = [](torch::Tensor& to, const torch::Tensor& from) {
      if (to.defined() && to.data_ptr() != from.data_ptr()) {
        to.copy_(from);
      }
    };
    write_back(parameter, p);
    write_back(moments.first, m);
    write_back(moments.second, v);
  }

  OptimizerKind kind_;
  std::vector<Moments> moments_;  // in the order of the groups
};

template <typename Optimizer>
auto& as_one_pass(Optimizer& optimizer) {
  using Target = std::conditional_t<std::is_const_v<Optimizer>, const OnePassOptimizer, OnePassOptimizer>;
  auto* const ours = dynamic_cast<Target*>(&optimizer);
  if (ours == nullptr) {
    throw Error(ErrorCategory::kInvalidArgument, "not an optimizer of pare's", kOptimizer,
                "make it with make_optimizer, or save it with LibTorch's own means");
  }
  return *ours;
}

}  // namespace

void OptimizerOptions::validate() const {
  const auto finite_from_zero = [](double value) { return value >= 0.0 && std::isfinite(value); };
  const auto fraction = [](double value) { return value >= 0.0 && value < 1.0; };
  require(lr > 0.0 && std::isfinite(lr), kOptimizer, str_cat("lr = ", lr), "it is a number above 0");
  require(finite_from_zero(weight_decay), kOptimizer, str_cat("weight_decay = ", weight_decay),
          "it is a number from 0 upwards");
  require(fraction(momentum), kOptimizer, str_cat("momentum = ", momentum), "it lies in [0, 1)");
  require(fraction(beta1), kOptimizer, str_cat("beta1 = ", beta1), "it lies in [0, 1)");
  require(fraction(beta2), kOptimizer, str_cat("beta2 = ", beta2), "it lies in [0, 1)");
  require(eps > 0.0 && std::isfinite(eps), kOptimizer, str_cat("eps = ", eps), "it is a number above 0");
  require(!nesterov || momentum > 0.0, kOptimizer, "nesterov without momentum", "set momentum, 0.9 say");
  if (kind != OptimizerKind::kSgd) {
    require(momentum == 0.0 && !nesterov, kOptimizer, "momentum is SGD's", "Adam and AdamW have beta1 instead");
  }
}

std::unique_ptr<torch::optim::Optimizer> make_optimizer(const Model& model, const OptimizerOptions& options) {
  options.validate();
  std::vector<torch::Tensor> weights;
  std::vector<torch::Tensor> others;
  for (const torch::Tensor& parameter : model.parameters()) {
    (parameter.dim() > 1 ? weights : others).push_back(parameter);
  }
  OptimizerOptions undecayed = options;
  undecayed.weight_decay = 0.0;
  std::vector<Group> groups;
  groups.emplace_back(std::move(weights), std::make_unique<GroupOptions>(options));
  groups.emplace_back(std::move(others), std::make_unique<GroupOptions>(undecayed));
  auto optimizer = std::make_unique<OnePassOptimizer>(std::move(groups), options);
  // LibTorch 2.13 puts the defaults in the place of a group's own options.
  static_cast<GroupOptions&>(optimizer->param_groups().back().options()).values = undecayed;
  return optimizer;
}

void zero_grad(torch::optim::Optimizer& optimizer) {
  for (Group& group : optimizer.param_groups()) {
    for (torch::Tensor& parameter : group.params()) {
      parameter.mutable_grad() = torch::Tensor();
    }
  }
}

void set_learning_rate(torch::optim::Optimizer& optimizer, double lr) {
  for (Group& group : optimizer.param_groups()) {
    group.options().set_lr(lr);
  }
}

std::string save_optimizer(const torch::optim::Optimizer& optimizer) { return as_one_pass(optimizer).save_state(); }

void load_optimizer(torch::optim::Optimizer& optimizer, const std::string& bytes) {
  as_one_pass(optimizer).load_state(bytes);
}

void LrSchedule::validate() const {
  require(warmup_steps >= 0, kSchedule, str_cat("warmup_steps = ", warmup_steps), "it is a number from 0 upwards");
  require(final_fraction >= 0.0 && final_fraction <= 1.0, kSchedule, str_cat("final_fraction = ", final_fraction),
          "it lies in [0, 1]");
  require(gamma > 0.0 && gamma <= 1.0, kSchedule, str_cat("gamma = ", gamma), "it lies in (0, 1]");
  const bool ordered = std::is_sorted(milestones.begin(), milestones.end());
  const bool positive = std::all_of(milestones.begin(), milestones.end(),
                                    [](double epoch) { return epoch > 0.0 && std::isfinite(epoch); });
  require(ordered && positive, kSchedule, "milestones that are not ascending epochs above 0",
          "milestones = [2, 4] multiplies lr by gamma after two epochs and after four");
  require(curve != LrCurve::kStep || !milestones.empty(), kSchedule, "a step schedule without milestones",
          "milestones = [2, 4] multiplies lr by gamma after two epochs and after four");
}

double LrSchedule::at(double base_lr, std::int64_t step, std::int64_t total_steps, std::int64_t steps_per_epoch) const {
  PARE_CHECK(step >= 0 && steps_per_epoch > 0);
  if (step < warmup_steps) {
    return base_lr * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  }
  switch (curve) {
    case LrCurve::kConstant:
      return base_lr;
    case LrCurve::kStep: {
      const double epoch = static_cast<double>(step) / static_cast<double>(steps_per_epoch);
      const auto passed = std::upper_bound(milestones.begin(), milestones.end(), epoch) - milestones.begin();
      return base_lr * std::pow(gamma, static_cast<double>(passed));
    }
    case LrCurve::kCosine: {
      const auto length = static_cast<double>(std::max<std::int64_t>(total_steps - warmup_steps, 1));
      const double progress = std::min(static_cast<double>(step - warmup_steps) / length, 1.0);
      const double fraction = 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
      return base_lr * (final_fraction + (1.0 - final_fraction) * fraction);
    }
  }
  PARE_CHECK(false);
}

}  // namespace pare::train
