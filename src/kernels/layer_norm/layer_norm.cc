#include "pare/kernels/layer_norm/layer_norm.h"

#include <cmath>

#include "pare/base/error.h"
#include "pare/format/real_functions.h"
#include "pare/kernels/isa_order.h"
#include "pare/kernels/real/store_real.h"

namespace pare::kernels {

std::span<const LayerNormKernel> layer_norm_kernels() {
  static constexpr LayerNormKernel kTable[] = {
    {"layer_norm_f32_scalar", Isa::kScalar, reference_layer_norm},
#if defined(__x86_64__)
    {"layer_norm_f32_avx2", Isa::kAvx2, run_layer_norm_avx2},
    {"layer_norm_f32_avx512vnni", Isa::kAvx512Vnni, run_layer_norm_avx512},
#endif
  };
  return kTable;
}

const LayerNormKernel& find_layer_norm_kernel(Isa isa) {
  const LayerNormKernel* found = strongest(layer_norm_kernels(), isa, [](const LayerNormKernel&) { return true; });
  PARE_CHECK(found != nullptr);
  return *found;
}

void reference_layer_norm(const LayerNormArgs& args, std::int64_t begin, std::int64_t end) {
  const std::int64_t n = args.features;
  for (std::int64_t row = begin; row < end; ++row) {
    const float* x = args.x + row * n;
    float parts[format::kSumParts] = {};
    for (std::int64_t i = 0; i < n; ++i) parts[i % format::kSumParts] += x[i];
    const float mean = format::fold_parts(parts) / static_cast<float>(n);
    for (float& part : parts) part = 0.0F;
    for (std::int64_t i = 0; i < n; ++i) parts[i % format::kSumParts] += (x[i] - mean) * (x[i] - mean);
    const float variance = format::fold_parts(parts) / static_cast<float>(n);
    const float factor = 1.0F / std::sqrt(variance + args.epsilon);
    for (std::int64_t i = 0; i < n; ++i) {
      store_real(args.y, row * n + i, ((x[i] - mean) * factor) * args.weight[i] + args.bias[i]);
    }
  }
}

}  // namespace pare::kernels
