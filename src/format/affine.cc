#include "pare/format/affine.h"

#include <algorithm>

namespace pare::format {

std::int32_t quantize_bias(float bias, float accumulator_scale) {
  constexpr double kLimit = 1 << 30;
  const double scaled = static_cast<double>(bias) / static_cast<double>(accumulator_scale);
  if (std::isnan(scaled)) return 0;
  return static_cast<std::int32_t>(std::nearbyint(std::clamp(scaled, -kLimit, kLimit)));
}

AffineParams choose_qparams_affine(float min_value, float max_value, QuantRange range) {
  const float lo = std::min(min_value, 0.0F);
  const float hi = std::max(max_value, 0.0F);
  const auto steps = static_cast<float>(range.qmax - range.qmin);
  float scale = (hi - lo) / steps;
  // The width of a range near the end of float32 overflows, its parts do not.
  if (std::isinf(scale)) scale = hi / steps - lo / steps;
  scale = std::max(scale, kMinScale);
  const float zero_point = static_cast<float>(range.qmin) - std::nearbyintf(lo / scale);
  const float clamped = std::clamp(zero_point, static_cast<float>(range.qmin), static_cast<float>(range.qmax));
  return {scale, static_cast<std::int32_t>(clamped)};
}

AffineParams choose_qparams_symmetric(float min_value, float max_value, QuantRange range) {
  const float magnitude = std::max(-std::min(min_value, 0.0F), std::max(max_value, 0.0F));
  const float half_steps = static_cast<float>(range.qmax - range.qmin) / 2.0F;
  return {std::max(magnitude / half_steps, kMinScale), 0};
}

}  // namespace pare::format
