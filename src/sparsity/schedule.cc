#include "pare/sparsity/schedule.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::sparsity {
namespace {

[[noreturn]] void fail(const std::string& problem, const std::string& remedy) {
  throw Error(ErrorCategory::kInvalidArgument, problem, "sparsity schedule", remedy);
}

}  // namespace

void SparsitySchedule::validate() const {
  if (!(from >= 0.0 && from <= 1.0)) {
    fail(str_cat("starting level ", from, " is outside [0, 1]"), "it is a fraction of blocks");
  }
  if (start_step < 0) {
    fail(str_cat("start_step ", start_step, " is negative"), "steps count from 0");
  }
  if (total_steps < 0) {
    fail(str_cat("total_steps ", total_steps, " is negative"), "0 jumps to the target at start_step");
  }
  if (delta_steps < 1) {
    fail(str_cat("delta_steps ", delta_steps, " is below 1"), "1 moves the level at every step");
  }
  if (update_every < 1) {
    fail(str_cat("update_every ", update_every, " is below 1"), "1 recomputes masks at every step");
  }
  if (!(power > 0.0) || !std::isfinite(power)) {
    fail(str_cat("power ", power, " is impossible"), "3 is cubic, 1 is linear");
  }
  if (hold_step < -1) {
    fail(str_cat("hold_step ", hold_step, " is impossible"), "give a step, or -1 for masks that are never held");
  }
  const std::int64_t end = start_step + (curve == LevelCurve::kConstant ? 0 : total_steps);
  if (hold_step >= 0 && hold_step < end && curve != LevelCurve::kLambda) {
    fail(str_cat("masks would be held at step ", hold_step, ", before the level has reached its target at step ", end),
         "hold them later, or end the ramp earlier");
  }
  if ((curve == LevelCurve::kLambda) != static_cast<bool>(lambda)) {
    fail(lambda ? "a lambda is given, but the curve is another" : "the lambda curve has no lambda",
         "set curve = LevelCurve::kLambda and lambda together");
  }
}

double SparsitySchedule::level_at(std::int64_t step, double target) const {
  if (curve == LevelCurve::kLambda) {
    const double level = target * lambda(step);
    if (!(level >= 0.0 && level <= 1.0)) {
      fail(str_cat("the lambda leads to level ", level, " at step ", step), "target times factor must stay in [0, 1]");
    }
    return level;
  }
  if (step < start_step) {
    return initially_zero ? 0.0 : from;
  }
  const std::int64_t done = (step - start_step) / delta_steps * delta_steps;
  if (curve == LevelCurve::kConstant || done >= total_steps || step - start_step >= total_steps) {
    return target;
  }
  const double progress = static_cast<double>(done) / static_cast<double>(total_steps);
  if (curve == LevelCurve::kExponential) {
    if (from >= 1.0 || target >= 1.0) {
      fail(str_cat("an exponential curve cannot go from level ", from, " to ", target),
           "what is left never decays to nothing: use cubic where all blocks are sparsified in the end");
    }
    return 1.0 - (1.0 - from) * std::pow((1.0 - target) / (1.0 - from), progress);
  }
  const double exponent = curve == LevelCurve::kCubic ? 3.0 : curve == LevelCurve::kPolynomial ? power : 1.0;
  const double level = target + (from - target) * std::pow(1.0 - progress, exponent);
  return std::clamp(level, std::min(from, target), std::max(from, target));
}

bool SparsitySchedule::updates_at(std::int64_t step) const {
  if (hold_step >= 0 && step >= hold_step) {
    return step == hold_step;
  }
  // The end of the ramp counts, or a stage whose length is no multiple of update_every would stop short of its target.
  return step % update_every == 0 || step == start_step + total_steps;
}

SparsityScheduler::SparsityScheduler(Sparsifier& sparsifier, SparsitySchedule schedule)
    : sparsifier_(sparsifier), schedule_(std::move(schedule)) {
  schedule_.validate();
}

void SparsityScheduler::after(std::int64_t step) {
  if (!sparsifier_.masks_held() && schedule_.updates_at(step)) {
    for (SparseGroup& group : sparsifier_.groups()) {
      group.sparsity_level = schedule_.level_at(step, group.config.sparsity_level);
    }
    sparsifier_.step();
  }
  if (schedule_.hold_step >= 0 && step >= schedule_.hold_step && !sparsifier_.masks_held()) {
    sparsifier_.hold_masks();
  }
}

}  // namespace pare::sparsity
