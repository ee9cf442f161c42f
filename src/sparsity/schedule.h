// How the sparsity level rises, and when masks are held.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "pare/sparsity/sparsifier.h"

namespace pare::sparsity {

enum class LevelCurve { kConstant, kLinear, kCubic, kPolynomial, kExponential, kLambda };

// Counterparts in torch.ao.pruning: CubicSL(init_sl, init_t, delta_t, total_t, initially_zero) is curve kCubic with
// from = init_sl, start_step = init_t, total_steps = delta_t * total_t, delta_steps = 1, initially_zero;
// LambdaSL(sl_lambda) is curve kLambda. Entry i of a torch scheduler's levels is level_at(i): its constructor takes
// step 0.
struct SparsitySchedule {
  LevelCurve curve = LevelCurve::kConstant;
  double from = 0.0;             // level at the start, as in CubicSL's init_sl
  double power = 3.0;            // kPolynomial only, above 0
  bool initially_zero = false;   // before start_step: 0 instead of `from`
  std::int64_t start_step = 0;   // before it: `from`
  std::int64_t total_steps = 0;  // length of the ramp; at and after start_step + total_steps: the target
  std::int64_t delta_steps =
      1;  // the level moves every so many steps (torch documents this for delta_t, but its code does not)
  std::int64_t update_every = 1;                    // masks are recomputed every so many steps, and where the ramp ends
  std::int64_t hold_step = -1;                      // from this step on masks are held; -1: never
  std::function<double(std::int64_t step)> lambda;  // kLambda: factor on the target level, as in LambdaSL

  // Throws kInvalidArgument.
  void validate() const;
  // Level in force at `step` (from 0) for a group whose target is `target`, p = progress of the ramp in [0, 1]:
  //   constant: target; linear: target + (from - target) * (1 - p); cubic: target + (from - target) * (1 - p)^3
  // (Zhu and Gupta, arXiv 1710.01878, as CubicSL has it); polynomial: the same with `power`; exponential: what is left
  // decays exponentially, 1 - (1 - from) * ((1 - target) / (1 - from))^p (as NNCF has it); lambda: target *
  // lambda(step). Throws kInvalidArgument if a lambda leads outside [0, 1], and for an exponential curve from or to a
  // level of 1 (the target of N:M, where all blocks are sparsified), which no decay reaches.
  [[nodiscard]] double level_at(std::int64_t step, double target) const;
  // True if masks are recomputed at `step`.
  [[nodiscard]] bool updates_at(std::int64_t step) const;
};

// Binds a schedule to a sparsifier: after(step) is called once after every optimizer step, with the number of steps
// done in this stage; it sets levels, recomputes masks and holds them as the schedule says. begin() does so for step 0.
// It keeps no state: what happens at a step depends on the step, so a resumed run just goes on. At hold_step the masks
// are recomputed a last time; after it they are only held, so that a resumed run keeps the masks of its checkpoint.
class SparsityScheduler {
 public:
  // `sparsifier` must outlive the scheduler. Throws kInvalidArgument.
  SparsityScheduler(Sparsifier& sparsifier, SparsitySchedule schedule);
  void begin() { after(0); }
  void after(std::int64_t step);
  [[nodiscard]] const SparsitySchedule& schedule() const { return schedule_; }

 private:
  Sparsifier& sparsifier_;
  SparsitySchedule schedule_;
};

}  // namespace pare::sparsity
