// Attention over the register tiles of the matrix products (tile/tile.h). Keys and values of a head are packed into
// panels like weights, codes less 128; then a block of queries at a time, whose scores stay in the cache.
#include <cstring>
#include <new>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "pare/kernels/attention/attention_args.h"
#include "pare/kernels/tile/panel_run.h"
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

namespace {

constexpr std::int64_t kBlockRows = 8 * kTileRows;

CanonicalWeights dense_weights(const std::int8_t* values, std::int64_t n, std::int64_t k) {
  CanonicalWeights weights;
  weights.values = values;
  weights.n = n;
  weights.segment_elems = k;
  return weights;
}

// Where the parts of the scratch lie, each on a line of the cache.
struct Scratch {
  std::int64_t longest;      // of a row of either product
  std::int64_t code_stride;  // bytes between rows of `codes`
  std::int64_t real_stride;  // elements between rows of `reals`
  std::int64_t keys, values, plain, codes, reals, inverses, zeros, factors, bytes;

  explicit Scratch(const AttentionArgs& args) {
    // The larger of the two forms, whichever an instruction set packs.
    const auto packed = [](const CanonicalWeights& weights) {
      return static_cast<std::int64_t>(packed_signed_panels_bytes<WeightFormat::kDense>(weights));
    };
    longest = args.length > args.head_elems ? args.length : args.head_elems;
    code_stride = round_up(args.length, 64);
    real_stride = round_up(longest, kLanes);
    bytes = 0;
    const auto take = [this](std::int64_t size) {
      const std::int64_t begin = bytes;
      bytes += round_up(size, 64);
      return begin;
    };
    keys = take(packed(dense_weights(nullptr, args.length, args.head_elems)));
    values = take(packed(dense_weights(nullptr, args.head_elems, args.length)));
    plain = take(args.length * args.head_elems);
    codes = take(kBlockRows * code_stride);
    reals = take(kBlockRows * real_stride * 4);
    inverses = take(kBlockRows * 4);
    zeros = take(longest * 4);
    factors = take(longest * 4);
  }
};

// Four rows of 16 codes to 16 columns of four, less 128: dword c holds column c.
void interleave(const std::uint8_t* const (&rows)[4], std::uint8_t (&columns)[64]) {
#if defined(__SSE2__)
  __m128i row[4];
  for (int r = 0; r < 4; ++r) {
    row[r] = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[r])), _mm_set1_epi8(-128));
  }
  const __m128i low01 = _mm_unpacklo_epi8(row[0], row[1]);
  const __m128i low23 = _mm_unpacklo_epi8(row[2], row[3]);
  const __m128i high01 = _mm_unpackhi_epi8(row[0], row[1]);
  const __m128i high23 = _mm_unpackhi_epi8(row[2], row[3]);
  auto* out = reinterpret_cast<__m128i*>(columns);
  _mm_storeu_si128(out, _mm_unpacklo_epi16(low01, low23));
  _mm_storeu_si128(out + 1, _mm_unpackhi_epi16(low01, low23));
  _mm_storeu_si128(out + 2, _mm_unpacklo_epi16(high01, high23));
  _mm_storeu_si128(out + 3, _mm_unpackhi_epi16(high01, high23));
#else
  for (int c = 0; c < 16; ++c) {
    for (int r = 0; r < 4; ++r) columns[4 * c + r] = static_cast<std::uint8_t>(rows[r][c] ^ 0x80);
  }
#endif
}

// What pack_panels makes of a head's keys, where whole panels and whole dwords allow: straight from the codes.
bool pack_keys(const std::uint8_t* from, std::int64_t stride, std::int64_t n, std::int64_t k, void* packed) {
  if (n % kPanelColumns != 0 || k % 16 != 0) return false;
  const PanelLayout& layout =
      *new (packed) PanelLayout(panel_layout(dense_weights(nullptr, n, k), WeightFormat::kDense, PanelKind::kPlain));
  auto* panel = static_cast<std::uint8_t*>(packed) + kPackedHeaderBytes;
  for (std::int64_t first = 0; first < n; first += kPanelColumns, panel += layout.panel_bytes(4)) {
    auto* sums = reinterpret_cast<std::int32_t*>(panel);
    std::uint8_t* values = panel + layout.values_offset(4);
    for (std::int64_t lane = 0; lane < kPanelColumns; ++lane) {
      const std::uint8_t* key = from + (first + panel_column(4, lane / kLanes, lane % kLanes)) * stride;
      std::int32_t sum = 0;
      for (std::int64_t i = 0; i < k; ++i) sum += key[i];
      sums[lane] = sum - static_cast<std::int32_t>(128 * k);
      for (std::int64_t i = 0; i < k; i += 4) {
        std::uint32_t four = 0;
        std::memcpy(&four, key + i, 4);
        four ^= 0x80808080U;
        std::memcpy(values + i / 4 * 256 + 4 * lane, &four, 4);
      }
    }
  }
  return true;
}

// The same of its values, transposed. The sums stay 0, as the shares' zero point is.
bool pack_values(const std::uint8_t* from, std::int64_t stride, std::int64_t n, std::int64_t k, void* packed) {
  if (n % kPanelColumns != 0 || k % 4 != 0) return false;
  const PanelLayout& layout =
      *new (packed) PanelLayout(panel_layout(dense_weights(nullptr, n, k), WeightFormat::kDense, PanelKind::kPlain));
  auto* panel = static_cast<std::uint8_t*>(packed) + kPackedHeaderBytes;
  for (std::int64_t first = 0; first < n; first += kPanelColumns, panel += layout.panel_bytes(4)) {
    std::memset(panel, 0, static_cast<std::size_t>(layout.sums_bytes(4)));
    std::uint8_t* values = panel + layout.values_offset(4);
    for (std::int64_t i = 0; i < k; i += 4, values += 256) {
      for (std::int64_t block = 0; block < 4; ++block) {
        const std::uint8_t* begin = from + i * stride + first + 16 * block;
        std::uint8_t columns[64];
        interleave({begin, begin + stride, begin + 2 * stride, begin + 3 * stride}, columns);
        for (std::int64_t j = 0; j < 4; ++j) std::memcpy(values + 64 * j + 16 * block, columns + 16 * j, 16);
      }
    }
  }
  return true;
}

struct Isa {
  const TileSet& tiles;
  AttentionRows rows;
  void (*pack)(const CanonicalWeights& weights, void* packed);
  bool signed_panels;
};

// Rows of uint8, each with a stride, times a packed operand, to float32 rows.
struct Product {
  const TileSet& tiles;
  const void* packed;
  Epilogue epilogue;
  std::int32_t zero_point;
  std::int64_t n;

  void run(const std::uint8_t* a, std::int64_t a_stride, std::int64_t row_count, float* c,
           std::int64_t c_stride) const {
    const std::uint8_t* rows[kBlockRows];
    std::uint8_t* out[kBlockRows];
    PanelTile list[kBlockRows / kTileRows];
    const std::int64_t count = ceil_div(row_count, kTileRows);
    std::int64_t m = 0;
    for (std::int64_t t = 0; t < count; ++t) {
      const std::int64_t height = ceil_div(row_count - m, count - t);
      for (std::int64_t r = 0; r < kTileRows; ++r) {
        const std::int64_t row = r < height ? m + r : m;
        rows[t * kTileRows + r] = a + row * a_stride;
        out[t * kTileRows + r] = reinterpret_cast<std::uint8_t*>(c + row * c_stride);
      }
      list[t] = {rows + t * kTileRows, out + t * kTileRows, height, {0, 1}};
      m += height;
    }
    run_panels({&tiles, packed, &epilogue, zero_point, n}, list, count, 0, n, nullptr);
  }
};

// One head, whose first code is element `first`.
void attend(const Isa& isa, const AttentionArgs& args, std::int64_t first, const Scratch& parts, std::uint8_t* base) {
  const std::int64_t length = args.length;
  const std::int64_t elems = args.head_elems;
  const std::uint8_t* k = args.k + first;
  const std::uint8_t* v = args.v + first;
  auto* plain = reinterpret_cast<std::int8_t*>(base + parts.plain);
  if (isa.signed_panels || !pack_keys(k, args.stride(), length, elems, base + parts.keys)) {
    for (std::int64_t j = 0; j < length; ++j) {
      for (std::int64_t c = 0; c < elems; ++c)
        plain[j * elems + c] = static_cast<std::int8_t>(k[j * args.stride() + c] ^ 0x80);
    }
    isa.pack(dense_weights(plain, length, elems), base + parts.keys);
  }
  if (isa.signed_panels || !pack_values(v, args.stride(), elems, length, base + parts.values)) {
    for (std::int64_t j = 0; j < length; ++j) {
      for (std::int64_t c = 0; c < elems; ++c)
        plain[c * length + j] = static_cast<std::int8_t>(v[j * args.stride() + c] ^ 0x80);
    }
    isa.pack(dense_weights(plain, elems, length), base + parts.values);
  }

  auto* zeros = reinterpret_cast<std::int32_t*>(base + parts.zeros);
  auto* factors = reinterpret_cast<float*>(base + parts.factors);
  auto* reals = reinterpret_cast<float*>(base + parts.reals);
  auto* inverses = reinterpret_cast<float*>(base + parts.inverses);
  std::uint8_t* codes = base + parts.codes;
  Epilogue epilogue;
  epilogue.output = Epilogue::Output::kF32;
  epilogue.bias = zeros;
  epilogue.multiplier = factors;
  const Product scores{isa.tiles, base + parts.keys, epilogue, args.q_zero_point, length};
  const Product sums{isa.tiles, base + parts.values, epilogue, 0, elems};
  const auto set_factors = [&](float factor) {
    for (std::int64_t i = 0; i < parts.longest; ++i) factors[i] = factor;
  };
  for (std::int64_t i = 0; i < length; i += kBlockRows) {
    const std::int64_t rows = length - i < kBlockRows ? length - i : kBlockRows;
    const std::int64_t at = first + i * args.stride();
    set_factors(args.score_scale);
    scores.run(args.q + at, args.stride(), rows, reals, parts.real_stride);
    for (std::int64_t r = 0; r < rows; ++r) {
      inverses[r] = isa.rows.softmax(reals + r * parts.real_stride, length, codes + r * parts.code_stride);
    }
    set_factors(1.0F);
    sums.run(codes, parts.code_stride, rows, reals, parts.real_stride);
    for (std::int64_t r = 0; r < rows; ++r) {
      isa.rows.finish(args, reals + r * parts.real_stride, inverses[r], at + r * args.stride(), elems);
    }
  }
}

[[maybe_unused]] void run(const Isa& isa, const AttentionArgs& args, std::int64_t begin, std::int64_t end,
                          void* scratch) {
  const Scratch parts(args);
  auto* base = static_cast<std::uint8_t*>(scratch);
  std::memset(base + parts.zeros, 0, static_cast<std::size_t>(parts.longest * 4));
  for (std::int64_t head = begin; head < end; ++head) {
    const std::int64_t image = head / args.heads * args.length * args.stride();
    attend(isa, args, image + head % args.heads * args.head_elems, parts, base);
  }
}

}  // namespace

std::size_t attention_tile_scratch(const AttentionArgs& args) { return static_cast<std::size_t>(Scratch(args).bytes); }

#if defined(__x86_64__)
void run_attention_avx2(const AttentionArgs& args, std::int64_t begin, std::int64_t end, void* scratch) {
  run({kTilesAvx2, {attention_softmax_avx2, attention_finish_avx2}, pack_signed_panels<WeightFormat::kDense>, true},
      args, begin, end, scratch);
}

void run_attention_avx512(const AttentionArgs& args, std::int64_t begin, std::int64_t end, void* scratch) {
  run({kTilesAvx512Vnni, {attention_softmax_avx512, attention_finish_avx512}, pack_panels<WeightFormat::kDense>, false},
      args, begin, end, scratch);
}
#endif

}  // namespace pare::kernels
