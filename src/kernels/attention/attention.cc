#include "pare/kernels/attention/attention.h"

#include <cmath>

#include "pare/base/error.h"
#include "pare/format/real_functions.h"
#include "pare/kernels/isa_order.h"
#include "pare/kernels/real/store_real.h"

namespace pare::kernels {

namespace {

float score(const AttentionArgs& args, const std::uint8_t* q, const std::uint8_t* k) {
  std::int32_t sum = 0;
  for (std::int64_t c = 0; c < args.head_elems; ++c) sum += (q[c] - args.q_zero_point) * (k[c] - 128);
  return static_cast<float>(sum) * args.score_scale;
}

// One query; `scores` is scratch.
void attend(const AttentionArgs& args, const std::uint8_t* q, const std::uint8_t* k, const std::uint8_t* v,
            std::int64_t first, float* scores) {
  for (std::int64_t j = 0; j < args.length; ++j) scores[j] = score(args, q, k + j * args.stride());
  float greatest = scores[0];
  for (std::int64_t j = 1; j < args.length; ++j) greatest = format::greater(scores[j], greatest);
  std::int32_t all = 0;
  for (std::int64_t j = 0; j < args.length; ++j) {
    scores[j] = std::nearbyintf(format::exp_nonpositive(scores[j] - greatest) * 255.0F);
    all += static_cast<std::int32_t>(scores[j]);
  }
  const float inverse = 1.0F / static_cast<float>(all);
  const auto shift = static_cast<float>(128 - args.v_zero_point);
  for (std::int64_t c = 0; c < args.head_elems; ++c) {
    std::int32_t sum = 0;
    for (std::int64_t j = 0; j < args.length; ++j) {
      sum += static_cast<std::int32_t>(scores[j]) * (v[j * args.stride() + c] - 128);
    }
    store_real(args.y, first + c, (static_cast<float>(sum) * inverse + shift) * args.v_scale);
  }
}

}  // namespace

std::size_t attention_row_scratch(const AttentionArgs& args) {
  return static_cast<std::size_t>(args.length) * sizeof(float);
}

std::span<const AttentionKernel> attention_kernels() {
  static constexpr AttentionKernel kTable[] = {
    {"attention_u8_scalar", Isa::kScalar, attention_row_scratch, reference_attention},
#if defined(__x86_64__)
    {"attention_u8_avx2", Isa::kAvx2, attention_tile_scratch, run_attention_avx2},
    {"attention_u8_avx512vnni", Isa::kAvx512Vnni, attention_tile_scratch, run_attention_avx512},
#endif
  };
  return kTable;
}

const AttentionKernel& find_attention_kernel(Isa isa) {
  const AttentionKernel* found = strongest(attention_kernels(), isa, [](const AttentionKernel&) { return true; });
  PARE_CHECK(found != nullptr);
  return *found;
}

void reference_attention(const AttentionArgs& args, std::int64_t begin, std::int64_t end, void* scratch) {
  for (std::int64_t head = begin; head < end; ++head) {
    const std::int64_t first = head / args.heads * args.length * args.stride() + head % args.heads * args.head_elems;
    for (std::int64_t i = 0; i < args.length; ++i) {
      const std::int64_t at = first + i * args.stride();
      attend(args, args.q + at, args.k + first, args.v + first, at, static_cast<float*>(scratch));
    }
  }
}

}  // namespace pare::kernels
