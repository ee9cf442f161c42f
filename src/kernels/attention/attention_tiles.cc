// Attention over the register tiles of the matrix products (tile/tile.h). Keys and values of a head are packed into
// panels like weights, codes less 128; then a block of queries at a time, whose scores stay in the cache.
#include <cstring>

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
  std::int64_t longest;                          // of a row of either product
  std::int64_t code_stride;                      // bytes between rows of `codes`
  std::int64_t real_stride;                      // elements between rows of `reals`
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

struct Isa {
  const TileSet& tiles;
  AttentionRows rows;
  void (*pack)(const CanonicalWeights& weights, void* packed);
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
      list[t] = {rows + t * kTileRows, out + t * kTileRows, height, 0, 1};
      m += height;
    }
    run_panels({&tiles, packed, &epilogue, zero_point, n}, list, count, 0, n, nullptr);
  }
};

// One head, whose first code is element `first`.
void attend(const Isa& isa, const AttentionArgs& args, std::int64_t first, const Scratch& parts, std::uint8_t* base) {
  const std::int64_t length = args.length;
  const std::int64_t elems = args.head_elems;
  auto* plain = reinterpret_cast<std::int8_t*>(base + parts.plain);
  for (std::int64_t j = 0; j < length; ++j) {
    const std::uint8_t* from = args.k + first + j * args.stride();
    for (std::int64_t c = 0; c < elems; ++c) plain[j * elems + c] = static_cast<std::int8_t>(from[c] ^ 0x80);
  }
  isa.pack(dense_weights(plain, length, elems), base + parts.keys);
  for (std::int64_t j = 0; j < length; ++j) {
    const std::uint8_t* from = args.v + first + j * args.stride();
    for (std::int64_t c = 0; c < elems; ++c) plain[c * length + j] = static_cast<std::int8_t>(from[c] ^ 0x80);
  }
  isa.pack(dense_weights(plain, elems, length), base + parts.values);

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

void run(const Isa& isa, const AttentionArgs& args, std::int64_t begin, std::int64_t end, void* scratch) {
  const Scratch parts(args);
  auto* base = static_cast<std::uint8_t*>(scratch);
  std::memset(base + parts.zeros, 0, static_cast<std::size_t>(parts.longest * 4));
  for (std::int64_t head = begin; head < end; ++head) {
    const std::int64_t image = head / args.heads * args.length * args.stride();
    attend(isa, args, image + head % args.heads * args.head_elems, parts, base);
  }
}

}  // namespace

std::size_t attention_tile_scratch(const AttentionArgs& args) {
  return static_cast<std::size_t>(Scratch(args).bytes);
}

#if defined(__x86_64__)
void run_attention_avx2(const AttentionArgs& args, std::int64_t begin, std::int64_t end, void* scratch) {
  run({kTilesAvx2, {attention_softmax_avx2, attention_finish_avx2}, pack_signed_panels<WeightFormat::kDense>}, args,
      begin, end, scratch);
}

void run_attention_avx512(const AttentionArgs& args, std::int64_t begin, std::int64_t end, void* scratch) {
  run({kTilesAvx512Vnni, {attention_softmax_avx512, attention_finish_avx512}, pack_panels<WeightFormat::kDense>}, args,
      begin, end, scratch);
}
#endif

}  // namespace pare::kernels
