#include <immintrin.h>

#include "pare/kernels/quantize/planes.h"

namespace pare::kernels {

namespace {

// 256 codes in four vectors.
struct Table {
  __m512i part[4];
  explicit Table(const std::uint8_t* codes) {
    for (int i = 0; i < 4; ++i) part[i] = _mm512_loadu_si512(codes + 64 * i);
  }
  // Seven bits select among two vectors, the eighth among the pairs.
  [[nodiscard]] __m512i look_up(__m512i x) const {
    const __m512i low = _mm512_permutex2var_epi8(part[0], x, part[1]);
    const __m512i high = _mm512_permutex2var_epi8(part[2], x, part[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high);
  }
};

}  // namespace

void run_quantize_table_avx512vbmi(const QuantizeArgs& args, std::int64_t begin, std::int64_t end) {
  const auto codes = [&](const Table& table, std::int64_t image, std::int64_t c, std::int64_t first, std::int64_t count,
                         std::uint8_t* out) {
    const std::uint8_t* x = args.raw + (image * args.channels + c) * args.pixels + first;
    if (count == 64) {
      _mm512_storeu_si512(out, table.look_up(_mm512_loadu_si512(x)));
      return;
    }
    const __mmask64 mask = (__mmask64{1} << count) - 1;
    _mm512_mask_storeu_epi8(out, mask, table.look_up(_mm512_maskz_loadu_epi8(mask, x)));
  };
  if (args.channels == 1) {
    const Table only(args.table);
    quantize_blocks(args, begin, end,
                    [&](std::int64_t image, std::int64_t c, std::int64_t first, std::int64_t count, std::uint8_t* out) {
                      codes(only, image, c, first, count, out);
                    });
    return;
  }
  quantize_blocks(args, begin, end,
                  [&](std::int64_t image, std::int64_t c, std::int64_t first, std::int64_t count, std::uint8_t* out) {
                    codes(Table(args.table + 256 * c), image, c, first, count, out);
                  });
}

}  // namespace pare::kernels
