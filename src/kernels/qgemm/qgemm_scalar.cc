// Four rows of A at a time are widened to int16 on the stack, chunk by chunk, and multiplied with weights that were
// widened when packed (dot/dot_s16.h).
#include "pare/kernels/dot/dot_s16.h"
#include "pare/kernels/qgemm/qgemm_args.h"

namespace pare::kernels {

namespace {

// Rows past m_end repeat the last one; their sums are thrown away.
void widen_rows(const QGemmArgs& args, std::int64_t m, std::int64_t m_end, std::int64_t k_begin, std::int64_t k_end,
                std::int16_t* out) {
  const std::int64_t padded = dot_padded(k_end - k_begin);
  const auto zero_point = static_cast<std::int16_t>(args.a_zero_point);
  for (std::int64_t r = 0; r < kDotRows; ++r) {
    const std::int64_t row = m + r < m_end ? m + r : m_end - 1;
    const std::uint8_t* a = args.a + row * args.a_stride_bytes + k_begin;
    std::int16_t* out_row = out + r * kDotChunk;
    for (std::int64_t i = 0; i < k_end - k_begin; ++i) {
      out_row[i] = static_cast<std::int16_t>(a[i] - zero_point);
    }
    for (std::int64_t i = k_end - k_begin; i < padded; ++i) {
      out_row[i] = 0;
    }
  }
}

}  // namespace

void qgemm_run_s16(const QGemmArgs& args, std::int64_t m_begin, std::int64_t m_end, std::int64_t n_begin,
                   std::int64_t n_end, void* /*scratch*/) {
  alignas(64) std::int16_t a[kDotRows * kDotChunk];
  alignas(64) std::int32_t acc[kDotRows * kDotBlock];
  const std::int64_t w_stride = dot_padded(args.k);
  const auto* packed = static_cast<const std::int16_t*>(args.packed);
  const std::int64_t out_bytes = args.epilogue.output == Epilogue::Output::kU8 ? 1 : sizeof(float);
  // Columns outside, so that a block of weights stays in the cache while all rows pass.
  for (std::int64_t n = n_begin; n < n_end; n += kDotBlock) {
    const std::int64_t columns = n + kDotBlock < n_end ? kDotBlock : n_end - n;
    for (std::int64_t m = m_begin; m < m_end; m += kDotRows) {
      for (std::int32_t& sum : acc) sum = 0;
      for (std::int64_t k = 0; k < args.k; k += kDotChunk) {
        const std::int64_t k_end = k + kDotChunk < args.k ? k + kDotChunk : args.k;
        widen_rows(args, m, m_end, k, k_end, a);
        dot_s16_block(a, kDotChunk, packed + n * w_stride + k, w_stride, dot_padded(k_end - k), columns, acc);
      }
      for (std::int64_t r = 0; r < kDotRows && m + r < m_end; ++r) {
        auto* out = static_cast<unsigned char*>(args.c) + ((m + r) * args.c_stride_elems + n) * out_bytes;
        store_epilogue(args.epilogue, acc + r * kDotBlock, m + r, n, columns, out);
      }
    }
  }
}

}  // namespace pare::kernels
