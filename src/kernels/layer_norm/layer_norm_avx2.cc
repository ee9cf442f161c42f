#include "pare/kernels/layer_norm/layer_norm_rows.h"

namespace pare::kernels {

void run_layer_norm_avx2(const LayerNormArgs& args, std::int64_t begin, std::int64_t end) {
  run_layer_norm(args, begin, end);
}

}  // namespace pare::kernels
