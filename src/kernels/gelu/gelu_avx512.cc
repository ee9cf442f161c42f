#include "pare/kernels/gelu/gelu_elems.h"

namespace pare::kernels {

void run_gelu_avx512(const GeluArgs& args, std::int64_t begin, std::int64_t end) { run_gelu(args, begin, end); }

}  // namespace pare::kernels
