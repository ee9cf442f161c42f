// One step of an optimizer on plain arrays, in one pass over memory.
#pragma once

#include <cstdint>

namespace pare::train {

// v += momentum-smoothed gradient; see sgd_step. All float32, as torch::optim rounds them to.
struct SgdCoefficients {
  float lr;
  float weight_decay;
  float momentum;
  bool nesterov;
  bool first;  // no momentum yet: it becomes the gradient
};

// g = gradient + weight_decay * p
// m = first ? g : momentum * m + g
// p -= lr * (nesterov ? g + momentum * m : m)           (without momentum, m = null: p -= lr * g)
void sgd_step(float* parameter, const float* gradient, float* m, std::int64_t elems, const SgdCoefficients& c);

struct AdamCoefficients {
  float shrink;        // AdamW: 1 - lr * weight_decay; Adam: 1
  float l2;            // Adam: weight_decay; AdamW: 0
  float beta1, rest1;  // rest = 1 - beta, rounded once from double
  float beta2, rest2;
  float step_size;    // lr / (1 - beta1^t)
  float denom_scale;  // 1 / sqrt(1 - beta2^t)
  float eps;
};

// g = gradient + l2 * p
// m = beta1 * m + (1 - beta1) * g
// v = beta2 * v + (1 - beta2) * g * g
// p = shrink * p - step_size * m / (denom_scale * sqrt(v) + eps)
void adam_step(float* parameter, const float* gradient, float* m, float* v, std::int64_t elems,
               const AdamCoefficients& c);

}  // namespace pare::train
