// Compiled with -fno-math-errno: else a square root is a call, and the loop is not vectorized.
#include "pare/train/optimizer_step.h"

#include <cmath>

namespace pare::train {

void sgd_step(float* __restrict parameter, const float* __restrict gradient, float* __restrict m, std::int64_t elems,
              const SgdCoefficients& c) {
  const SgdCoefficients k = c;
  if (m == nullptr) {
    for (std::int64_t i = 0; i < elems; ++i) {
      parameter[i] -= k.lr * (gradient[i] + k.weight_decay * parameter[i]);
    }
    return;
  }
  const float keep = k.first ? 0.0F : k.momentum;
  const float ahead = k.nesterov ? k.momentum : 1.0F;
  const float now = k.nesterov ? 1.0F : 0.0F;
  for (std::int64_t i = 0; i < elems; ++i) {
    const float g = gradient[i] + k.weight_decay * parameter[i];
    m[i] = keep * m[i] + g;
    parameter[i] -= k.lr * (now * g + ahead * m[i]);
  }
}

void adam_step(float* __restrict parameter, const float* __restrict gradient, float* __restrict m, float* __restrict v,
               std::int64_t elems, const AdamCoefficients& c) {
  const AdamCoefficients k = c;
  for (std::int64_t i = 0; i < elems; ++i) {
    const float p = parameter[i];
    const float g = gradient[i] + k.l2 * p;
    const float mean = k.beta1 * m[i] + k.rest1 * g;
    const float square = k.beta2 * v[i] + k.rest2 * g * g;
    m[i] = mean;
    v[i] = square;
    parameter[i] = k.shrink * p - k.step_size * mean / (k.denom_scale * std::sqrt(square) + k.eps);
  }
}

}  // namespace pare::train
