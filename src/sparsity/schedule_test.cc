#include "pare/sparsity/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/error.h"
#include "pare/sparsity/testing/small_model.h"
#include "pare/sparsity/weight_norm_sparsifier.h"

namespace pare::sparsity {
namespace {

using Json = nlohmann::json;
using testing::small_mlp;

Json golden_cases(const std::string& kind) {
  std::ifstream file(std::string(PARE_GOLDENS_DIR) + "/schedules.json");
  EXPECT_TRUE(file.good());
  const Json golden = Json::parse(file);
  Json cases = Json::array();
  for (const Json& entry : golden.at("cases")) {
    if (entry.at("kind") == kind) {
      EXPECT_FALSE(entry.contains("error"));
      cases.push_back(entry);
    }
  }
  return cases;
}

void expect_levels(const SparsitySchedule& schedule, const Json& targets, const Json& levels_by_step) {
  schedule.validate();
  ASSERT_EQ(levels_by_step.size(), 17U);
  for (std::size_t step = 0; step < levels_by_step.size(); ++step) {
    for (std::size_t group = 0; group < targets.size(); ++group) {
      EXPECT_DOUBLE_EQ(schedule.level_at(static_cast<std::int64_t>(step), targets[group].get<double>()),
                       levels_by_step[step][group].get<double>())
          << "step " << step << " group " << group;
    }
  }
}

TEST(SparsitySchedule, CubicGivesTorchsLevels) {
  const Json cases = golden_cases("CubicSL");
  EXPECT_EQ(cases.size(), 12U);
  for (const Json& entry : cases) {
    SCOPED_TRACE(entry.dump().substr(0, 120));
    const Json& args = entry.at("args");
    SparsitySchedule schedule;
    schedule.curve = LevelCurve::kCubic;
    schedule.from = args.value("init_sl", 0.0);
    schedule.start_step = args.value("init_t", 0);
    schedule.total_steps = args.value("delta_t", 10) * args.value("total_t", 100);
    schedule.initially_zero = args.value("initially_zero", false);
    expect_levels(schedule, entry.at("target_levels"), entry.at("levels_by_step"));
  }
}

TEST(SparsitySchedule, LambdaGivesTorchsLevels) {
  const std::map<std::string, std::function<double(std::int64_t)>> lambdas = {
      {"0.95**epoch", [](std::int64_t step) { return std::pow(0.95, static_cast<double>(step)); }},
      {"min(1,epoch/10)", [](std::int64_t step) { return std::min(1.0, static_cast<double>(step) / 10.0); }},
      {"1-(1-min(1,epoch/10))**3",
       [](std::int64_t step) { return 1.0 - std::pow(1.0 - std::min(1.0, static_cast<double>(step) / 10.0), 3.0); }}};
  const Json cases = golden_cases("LambdaSL");
  EXPECT_EQ(cases.size(), 6U);
  for (const Json& entry : cases) {
    SCOPED_TRACE(entry.at("fn").get<std::string>());
    SparsitySchedule schedule;
    schedule.curve = LevelCurve::kLambda;
    schedule.lambda = lambdas.at(entry.at("fn"));
    expect_levels(schedule, entry.at("base_levels"), entry.at("levels_by_step"));
  }
}

TEST(SparsitySchedule, ConstantIsTheTargetFromItsStartOn) {
  SparsitySchedule schedule;
  EXPECT_EQ(schedule.level_at(0, 0.7), 0.7);
  EXPECT_EQ(schedule.level_at(1000, 0.7), 0.7);
  schedule.start_step = 5;
  schedule.from = 0.2;
  EXPECT_EQ(schedule.level_at(4, 0.7), 0.2);
  EXPECT_EQ(schedule.level_at(5, 0.7), 0.7);
}

TEST(SparsitySchedule, LinearRisesEvenlyBetweenItsEnds) {
  SparsitySchedule schedule;
  schedule.curve = LevelCurve::kLinear;
  schedule.from = 0.2;
  schedule.start_step = 10;
  schedule.total_steps = 40;
  EXPECT_EQ(schedule.level_at(9, 1.0), 0.2);
  EXPECT_DOUBLE_EQ(schedule.level_at(10, 1.0), 0.2);
  EXPECT_DOUBLE_EQ(schedule.level_at(20, 1.0), 0.4);
  EXPECT_DOUBLE_EQ(schedule.level_at(30, 1.0), 0.6);
  EXPECT_EQ(schedule.level_at(50, 1.0), 1.0);
  EXPECT_EQ(schedule.level_at(5000, 1.0), 1.0);
  EXPECT_DOUBLE_EQ(schedule.level_at(30, 0.1), 0.15) << "a ramp may fall";
}

TEST(SparsitySchedule, PolynomialWithPowerThreeIsCubicAndWithOneLinear) {
  SparsitySchedule polynomial;
  polynomial.curve = LevelCurve::kPolynomial;
  polynomial.from = 0.1;
  polynomial.total_steps = 7;
  for (const auto& [power, curve] : {std::pair{3.0, LevelCurve::kCubic}, {1.0, LevelCurve::kLinear}}) {
    polynomial.power = power;
    SparsitySchedule same = polynomial;
    same.curve = curve;
    for (std::int64_t step = 0; step < 9; ++step) {
      EXPECT_EQ(polynomial.level_at(step, 0.9), same.level_at(step, 0.9)) << power << " at " << step;
    }
  }
  polynomial.power = 2.0;
  polynomial.total_steps = 4;
  EXPECT_DOUBLE_EQ(polynomial.level_at(2, 0.9), 0.9 - 0.8 * 0.25);
}

TEST(SparsitySchedule, ExponentialLeavesTheSameFractionAtEveryStep) {
  SparsitySchedule schedule;
  schedule.curve = LevelCurve::kExponential;
  schedule.from = 0.2;
  schedule.total_steps = 10;
  const double factor = std::pow(0.1 / 0.8, 0.1);
  for (std::int64_t step = 0; step < 10; ++step) {
    const double left = 1.0 - schedule.level_at(step, 0.9);
    // Rounding of pow and of two differences near 1.
    EXPECT_NEAR((1.0 - schedule.level_at(step + 1, 0.9)) / left, factor, 1e-14) << step;
  }
  EXPECT_DOUBLE_EQ(schedule.level_at(0, 0.9), 0.2);
  EXPECT_EQ(schedule.level_at(10, 0.9), 0.9);
  EXPECT_THROW(static_cast<void>(schedule.level_at(3, 1.0)), Error) << "no decay reaches nothing";
}

TEST(SparsitySchedule, LevelMovesEveryDeltaStepsAndEndsOnTheTarget) {
  SparsitySchedule schedule;
  schedule.curve = LevelCurve::kLinear;
  schedule.total_steps = 10;
  schedule.delta_steps = 4;
  EXPECT_EQ(schedule.level_at(3, 1.0), 0.0);
  EXPECT_DOUBLE_EQ(schedule.level_at(4, 1.0), 0.4);
  EXPECT_DOUBLE_EQ(schedule.level_at(7, 1.0), 0.4);
  EXPECT_DOUBLE_EQ(schedule.level_at(9, 1.0), 0.8);
  EXPECT_EQ(schedule.level_at(10, 1.0), 1.0);
}

TEST(SparsitySchedule, ARampWithoutLengthJumps) {
  for (const LevelCurve curve : {LevelCurve::kLinear, LevelCurve::kCubic}) {
    SparsitySchedule schedule;
    schedule.curve = curve;
    schedule.start_step = 3;
    EXPECT_EQ(schedule.level_at(2, 0.8), 0.0);
    EXPECT_EQ(schedule.level_at(3, 0.8), 0.8);
  }
}

TEST(SparsitySchedule, RefusesWhatCannotBe) {
  const std::vector<std::function<void(SparsitySchedule&)>> faults = {
      [](SparsitySchedule& s) { s.from = 1.5; },
      [](SparsitySchedule& s) { s.from = std::numeric_limits<double>::quiet_NaN(); },
      [](SparsitySchedule& s) { s.start_step = -1; },
      [](SparsitySchedule& s) { s.total_steps = -1; },
      [](SparsitySchedule& s) { s.delta_steps = 0; },
      [](SparsitySchedule& s) { s.update_every = 0; },
      [](SparsitySchedule& s) { s.power = 0.0; },
      [](SparsitySchedule& s) { s.hold_step = -2; },
      [](SparsitySchedule& s) { s.curve = LevelCurve::kLambda; },
      [](SparsitySchedule& s) { s.lambda = [](std::int64_t) { return 1.0; }; },
      [](SparsitySchedule& s) {
        s.curve = LevelCurve::kCubic;
        s.total_steps = 10;
        s.hold_step = 9;
      }};
  for (std::size_t i = 0; i < faults.size(); ++i) {
    SparsitySchedule schedule;
    EXPECT_NO_THROW(schedule.validate());
    faults[i](schedule);
    try {
      schedule.validate();
      FAIL() << "fault " << i << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.category(), ErrorCategory::kInvalidArgument) << i;
    }
  }
  SparsitySchedule schedule;
  schedule.curve = LevelCurve::kLambda;
  for (const double factor : {1.5, -0.5, std::numeric_limits<double>::quiet_NaN()}) {
    schedule.lambda = [factor](std::int64_t) { return factor; };
    EXPECT_THROW(static_cast<void>(schedule.level_at(0, 0.8)), Error) << factor;
  }
}

TEST(SparsitySchedule, UpdatesAtMultiplesAtTheEndOfTheRampAndLastlyWhenHeld) {
  SparsitySchedule schedule;
  schedule.curve = LevelCurve::kCubic;
  schedule.total_steps = 10;
  schedule.update_every = 4;
  schedule.hold_step = 13;
  std::vector<std::int64_t> updates;
  for (std::int64_t step = 0; step < 30; ++step) {
    if (schedule.updates_at(step)) {
      updates.push_back(step);
    }
  }
  EXPECT_EQ(updates, (std::vector<std::int64_t>{0, 4, 8, 10, 12, 13}));
}

double kept_fraction(const train::Model& model, const std::string& fqn) {
  return model.weight(fqn).mask().mean().item<double>();
}

TEST(SparsityScheduler, RaisesTheLevelThenHoldsTheMasks) {
  train::Model model(small_mlp(1));
  WeightNormSparsifier sparsifier(MaskConfig::from_pattern("2:4"));
  sparsifier.prepare(model);
  SparsitySchedule schedule;
  schedule.curve = LevelCurve::kLinear;
  schedule.total_steps = 4;
  schedule.hold_step = 6;
  SparsityScheduler scheduler(sparsifier, schedule);

  scheduler.begin();
  EXPECT_EQ(kept_fraction(model, "fc2.weight"), 1.0);
  double before = 1.0;
  for (std::int64_t step = 1; step <= 4; ++step) {
    scheduler.after(step);
    EXPECT_LT(kept_fraction(model, "fc2.weight"), before) << step;
    EXPECT_DOUBLE_EQ(sparsifier.groups().at(1).sparsity_level, static_cast<double>(step) / 4.0);
    before = kept_fraction(model, "fc2.weight");
  }
  EXPECT_EQ(before, 0.5);
  scheduler.after(5);
  EXPECT_FALSE(sparsifier.masks_held());
  scheduler.after(6);
  EXPECT_TRUE(sparsifier.masks_held());
}

TEST(SparsityScheduler, TakesALastMaskWhenItHoldsAndNoneAfter) {
  train::Model model(small_mlp(2));
  WeightNormSparsifier sparsifier(MaskConfig::from_pattern("2:4"));
  sparsifier.prepare(model);
  SparsitySchedule schedule;
  schedule.update_every = 100;
  schedule.hold_step = 3;
  SparsityScheduler scheduler(sparsifier, schedule);
  scheduler.begin();
  const auto& weight = model.weight("fc1.weight");
  const auto change = [&] {
    const torch::NoGradGuard no_grad;
    torch::Tensor dense = weight.dense();
    dense.copy_(torch::flip(dense, {1}).clone());
  };
  const torch::Tensor first = weight.mask();
  change();
  scheduler.after(1);
  EXPECT_TRUE(torch::equal(weight.mask(), first));
  scheduler.after(3);
  const torch::Tensor last = weight.mask();
  EXPECT_FALSE(torch::equal(last, first));
  change();
  for (std::int64_t step : {4, 100, 200}) {
    scheduler.after(step);
    EXPECT_TRUE(torch::equal(weight.mask(), last)) << step;
  }
}

// A run that is killed after any step and goes on from its checkpoint, against one that is not.
TEST(SparsityScheduler, ResumesFromTheStepAlone) {
  SparsitySchedule schedule;
  schedule.curve = LevelCurve::kCubic;
  schedule.total_steps = 6;
  schedule.update_every = 3;
  schedule.hold_step = 8;
  const auto change = [](train::Model& model, std::int64_t step) {
    const torch::NoGradGuard no_grad;
    for (const auto& weight : model.weights()) {
      torch::Tensor dense = weight->dense();
      const torch::Tensor position = torch::arange(dense.numel(), torch::kFloat32).reshape(dense.sizes());
      dense.add_(torch::sin(position * static_cast<double>(step + 1)), 0.1);
    }
  };
  const auto prepare = [](train::Model& model, WeightNormSparsifier& sparsifier) { sparsifier.prepare(model); };
  const MaskConfig two_four = MaskConfig::from_pattern("2:4");

  for (std::int64_t killed_after = 0; killed_after < 11; ++killed_after) {
    SCOPED_TRACE(killed_after);
    train::Model whole(small_mlp(3));
    WeightNormSparsifier whole_sparsifier(two_four);
    prepare(whole, whole_sparsifier);
    SparsityScheduler whole_scheduler(whole_sparsifier, schedule);

    train::Model resumed(small_mlp(4));
    WeightNormSparsifier resumed_sparsifier(two_four);
    prepare(resumed, resumed_sparsifier);
    SparsityScheduler resumed_scheduler(resumed_sparsifier, schedule);

    whole_scheduler.begin();
    for (std::int64_t step = 1; step <= 11; ++step) {
      change(whole, step);
      whole_scheduler.after(step);
      if (step == killed_after || (killed_after == 0 && step == 1)) {
        std::map<std::string, torch::Tensor> state;
        for (const auto& [name, tensor] : whole.state()) {
          state[name] = tensor.clone();
        }
        resumed.load_state(state);
        resumed_sparsifier.load_state(whole_sparsifier.state());
      } else if (step > killed_after) {
        change(resumed, step);
        resumed_scheduler.after(step);
      }
    }
    EXPECT_EQ(resumed_sparsifier.state(), whole_sparsifier.state());
    for (const auto& weight : whole.weights()) {
      const auto& other = resumed.weight(weight->fqn());
      EXPECT_TRUE(torch::equal(weight->dense(), other.dense()));
      EXPECT_TRUE(torch::equal(weight->mask(), other.mask()));
      EXPECT_EQ(weight->mask_gradient(), other.mask_gradient());
    }
  }
}

}  // namespace
}  // namespace pare::sparsity
