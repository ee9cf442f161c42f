// The NEON tile kernels, for any way to multiply four u8 by four s8 and add them up. For files that are compiled for
// one instruction set and define, in an unnamed namespace,
//
//   struct Dot {
//     static constexpr std::uint8_t kFlip;   what activations are turned with when staged: x = a ^ kFlip
//     static constexpr std::int32_t kShift;  a = x + kShift
//     static int32x4_t add(int32x4_t acc, int8x16_t w, uint8x16_t x);
//   };
//
// A walk goes over some vectors of 4 lanes of a panel with the accumulators in registers, along a chunk of k whose
// activations were staged before. Per-lane 2:4 gains little over dense where a vqtbl1q costs
// what a dot product does; it keeps its 0.625 bytes a weight, which is what M = 1 waits for.
#pragma once

#include <arm_neon.h>

#include "pare/kernels/tile/tile.h"

#define PARE_ALWAYS_INLINE inline __attribute__((always_inline))
#define PARE_UNROLL _Pragma("GCC unroll 16")

namespace pare::kernels {
namespace {

constexpr std::int64_t kChunk = 512;           // k that are staged at a time
constexpr std::int64_t kStride = kChunk + 32;  // between rows of staged activations

// What is between two walks: [row][64] in the order of lanes.
struct Accumulators {
  alignas(64) std::int32_t lanes[kTileRows * kPanelColumns];

  void start(const PanelEpilogue& e, std::int64_t rows, std::int64_t vectors) {
    for (std::int64_t r = 0; r < rows; ++r) {
      __builtin_memcpy(lanes + 64 * r, e.start, static_cast<std::size_t>(64 * vectors));
    }
  }
};

template <int kRows, int kWidth>
PARE_ALWAYS_INLINE void load_accumulators(int32x4_t (&acc)[kRows][kWidth], const std::int32_t* from) {
  PARE_UNROLL for (int r = 0; r < kRows; ++r) {
    PARE_UNROLL for (int j = 0; j < kWidth; ++j) acc[r][j] = vld1q_s32(from + 64 * r + 4 * j);
  }
}

template <int kRows, int kWidth>
PARE_ALWAYS_INLINE void store_accumulators(const int32x4_t (&acc)[kRows][kWidth], std::int32_t* to) {
  PARE_UNROLL for (int r = 0; r < kRows; ++r) {
    PARE_UNROLL for (int j = 0; j < kWidth; ++j) vst1q_s32(to + 64 * r + 4 * j, acc[r][j]);
  }
}

PARE_ALWAYS_INLINE void prefetch(const std::uint8_t* line, std::int64_t lines, std::int64_t step) {
  for (std::int64_t i = 0; i < lines; ++i, line += step) __builtin_prefetch(line, 0, 2);
}

// What follows the `count` activations is left as it was: weights of 0 meet it.
PARE_ALWAYS_INLINE void stage(const std::uint8_t* from, std::int64_t count, std::uint8_t* to) {
  const uint8x16_t flip = vdupq_n_u8(Dot::kFlip);
  std::int64_t k = 0;
  for (; k + 16 <= count; k += 16) vst1q_u8(to + k, veorq_u8(vld1q_u8(from + k), flip));
  for (; k < count; ++k) to[k] = static_cast<std::uint8_t>(from[k] ^ Dot::kFlip);
}

// Runs args' taps, each padded to `multiple`, in chunks: body(staged, k of the chunk, where it begins in the panel,
// counted in padded k). A chunk is a part of one tap or several whole ones.
template <int kRows, typename Body>
PARE_ALWAYS_INLINE void for_chunks(const TileArgs& args, std::int64_t multiple, const Body& body) {
  alignas(64) std::uint8_t staged[kTileRows * kStride];
  const std::int64_t padded = round_up(args.c, multiple);
  std::int64_t begin = 0;
  std::int64_t tap = 0;
  std::int64_t k = 0;  // of the tap
  while (tap < args.taps) {
    std::int64_t filled = 0;
    do {
      const std::int64_t room = kChunk - filled;
      const std::int64_t count = padded - k < room ? padded - k : room;
      const std::int64_t there = args.c - k < count ? args.c - k : count;
      for (std::int64_t r = 0; r < kRows; ++r) {
        stage(args.rows[tap * kTileRows + r] + k, there, staged + r * kStride + filled);
      }
      filled += count;
      k += count;
      if (k == padded) {
        k = 0;
        ++tap;
      }
    } while (tap < args.taps && k == 0 && filled + padded <= kChunk);
    body(staged, filled, begin);
    begin += filled;
  }
}

// One row is bound by the memory its weights come from, and takes the whole panel.
template <int kRows, int kVectors>
constexpr int kDenseWalk = kRows == 1 ? 4 * kVectors : 4;
template <int kRows, int kVectors>
constexpr int kTwoFourWalk = kRows == 1 ? 4 * kVectors : 2;

template <int kRows, int kVectors>
PARE_ALWAYS_INLINE void walk_dense(std::int32_t* lanes, const std::uint8_t* values, const std::uint8_t* staged,
                                   std::int64_t k) {
  constexpr int kWidth = kDenseWalk<kRows, kVectors>;
  int32x4_t acc[kRows][kWidth];
  load_accumulators(acc, lanes);
  for (std::int64_t i = 0; i < k; i += 4) {
    uint8x16_t x[kRows];
    PARE_UNROLL for (int r = 0; r < kRows; ++r) {
      std::uint32_t four;
      __builtin_memcpy(&four, staged + kStride * r + i, sizeof four);
      x[r] = vreinterpretq_u8_u32(vdupq_n_u32(four));
    }
    PARE_UNROLL for (int j = 0; j < kWidth; ++j) {
      const int8x16_t w = vreinterpretq_s8_u8(vld1q_u8(values + 16 * j));
      PARE_UNROLL for (int r = 0; r < kRows; ++r) acc[r][j] = Dot::add(acc[r][j], w, x[r]);
    }
    values += 64 * kVectors;
  }
  store_accumulators(acc, lanes);
}

// Blocks of 32 k.
template <int kRows, int kVectors, TileControl kControl>
PARE_ALWAYS_INLINE void walk_two_four(std::int32_t* lanes, const std::uint8_t* block, std::uint8_t* control,
                                      const std::uint8_t* staged, std::int64_t k) {
  constexpr int kWidth = kTwoFourWalk<kRows, kVectors>;
  int32x4_t acc[kRows][kWidth];
  load_accumulators(acc, lanes);
  const uint8x16_t position = vdupq_n_u8(3);
  // Value byte b of a lane takes one of the first four of 8 activations (b < 2) or of the last four.
  const uint8x16_t upper = vreinterpretq_u8_u32(vdupq_n_u32(0x04040000));
  for (std::int64_t i = 0; i < k; i += 32, block += 320 * kVectors, control += 256 * kVectors) {
    for (int s = 0; s < 4; ++s) {
      uint8x16_t x[kRows];
      PARE_UNROLL for (int r = 0; r < kRows; ++r) {
        const uint8x8_t eight = vld1_u8(staged + kStride * r + i + 8 * s);
        x[r] = vcombine_u8(eight, eight);
      }
      PARE_UNROLL for (int j = 0; j < kWidth; ++j) {
        std::uint8_t* kept = control + 64 * s * kVectors + 16 * j;
        uint8x16_t c;
        if constexpr (kControl == TileControl::kKept) {
          c = vld1q_u8(kept);
        } else {
          const uint8x16_t indices = vshlq_u8(vld1q_u8(block + 16 * j), vdupq_n_s8(static_cast<std::int8_t>(-2 * s)));
          c = vorrq_u8(vandq_u8(indices, position), upper);
          if constexpr (kControl == TileControl::kKeep) vst1q_u8(kept, c);
        }
        const int8x16_t w = vreinterpretq_s8_u8(vld1q_u8(block + 64 * (s + 1) * kVectors + 16 * j));
        PARE_UNROLL for (int r = 0; r < kRows; ++r) acc[r][j] = Dot::add(acc[r][j], w, vqtbl1q_u8(x[r], c));
      }
    }
  }
  store_accumulators(acc, lanes);
}

// Writes `count` of 16 codes, or of 4 reals.
template <typename T, typename V, typename Store>
PARE_ALWAYS_INLINE void store_columns(T* out, V v, std::int64_t count, std::int64_t all, const Store& store) {
  if (count >= all) {
    store(out, v);
  } else if (count > 0) {
    T some[16];
    store(some, v);
    __builtin_memcpy(out, some, static_cast<std::size_t>(count) * sizeof(T));
  }
}

// Lane at which columns c to c + 3 begin, c a multiple of 4.
PARE_ALWAYS_INLINE std::int64_t lane_of(std::int64_t vectors, std::int64_t c) {
  return vectors == 4 ? c % 16 * 4 + c / 16 * 4 : c;
}

PARE_ALWAYS_INLINE float32x4_t real(const std::int32_t* acc, const PanelEpilogue& e, std::int64_t lane) {
  return vmulq_f32(vcvtq_f32_s32(vld1q_s32(acc + lane)), vld1q_f32(e.multiplier + lane));
}

void store_tile(const std::int32_t* acc, std::int64_t rows, std::int64_t vectors, const PanelEpilogue& e,
                void* const* out) {
  const float32x4_t hi = vdupq_n_f32(e.hi);
  const int32x4_t zero_point = vdupq_n_s32(e.zero_point);
  const int32x4_t qmin = vdupq_n_s32(e.qmin);
  for (std::int64_t r = 0; r < rows; ++r, acc += kPanelColumns) {
    if (e.to_f32) {
      auto* to = static_cast<float*>(out[r]);
      for (std::int64_t c = 0; c < e.columns; c += 4) {
        const std::int64_t lane = lane_of(vectors, c);
        float32x4_t v = real(acc, e, lane);
        if (e.row_scale != nullptr) v = vaddq_f32(vmulq_n_f32(v, e.row_scale[r]), vld1q_f32(e.real_bias + lane));
        // -0 stays -0, as in the reference.
        if (e.relu) v = vbslq_f32(vcltzq_f32(v), vdupq_n_f32(0.0F), v);
        store_columns(to + c, v, e.columns - c, 4, vst1q_f32);
      }
    } else {
      auto* to = static_cast<std::uint8_t*>(out[r]);
      for (std::int64_t c = 0; c < e.columns; c += 16) {
        uint16x4_t codes[4];
        PARE_UNROLL for (int j = 0; j < 4; ++j) {
          // format::requantize: the upper clamp in float, as the product may lie beyond int32; the conversion
          // saturates what lies below.
          const int32x4_t v = vcvtnq_s32_f32(vminq_f32(real(acc, e, lane_of(vectors, c + 4 * j)), hi));
          codes[j] = vmovn_u32(vreinterpretq_u32_s32(vmaxq_s32(vaddq_s32(v, zero_point), qmin)));
        }
        const uint8x16_t v =
            vcombine_u8(vmovn_u16(vcombine_u16(codes[0], codes[1])), vmovn_u16(vcombine_u16(codes[2], codes[3])));
        store_columns(to + c, v, e.columns - c, 16, vst1q_u8);
      }
    }
  }
}

template <int kRows, int kVectors>
void run_dense(const TileArgs& args) {
  Accumulators acc;
  acc.start(*args.epilogue, kRows, kVectors);
  const std::uint8_t* next = args.prefetch;
  for_chunks<kRows>(args, 4, [&](const std::uint8_t* staged, std::int64_t k, std::int64_t begin) {
    for (int j = 0; j < 4 * kVectors; j += kDenseWalk<kRows, kVectors>) {
      walk_dense<kRows, kVectors>(acc.lanes + 4 * j, args.values + begin * 16 * kVectors + 16 * j, staged, k);
    }
    prefetch(next, k / 8, args.prefetch_step);
    next += k / 8 * args.prefetch_step;
  });
  store_tile(acc.lanes, kRows, kVectors, *args.epilogue, args.out);
}

template <int kRows, int kVectors, TileControl kControl>
void run_two_four(const TileArgs& args) {
  Accumulators acc;
  acc.start(*args.epilogue, kRows, kVectors);
  for_chunks<kRows>(args, 32, [&](const std::uint8_t* staged, std::int64_t k, std::int64_t begin) {
    for (int j = 0; j < 4 * kVectors; j += kTwoFourWalk<kRows, kVectors>) {
      walk_two_four<kRows, kVectors, kControl>(acc.lanes + 4 * j, args.values + begin * 10 * kVectors + 16 * j,
                                               args.control + begin * 8 * kVectors + 16 * j, staged, k);
    }
  });
  store_tile(acc.lanes, kRows, kVectors, *args.epilogue, args.out);
}

template <int kVectors>
TileKernel dense_kernel(std::int64_t rows) {
  constexpr TileKernel kKernels[kTileRows] = {run_dense<1, kVectors>, run_dense<2, kVectors>, run_dense<3, kVectors>,
                                              run_dense<4, kVectors>, run_dense<5, kVectors>, run_dense<6, kVectors>};
  return kKernels[rows - 1];
}

template <int kVectors, TileControl kControl>
TileKernel two_four_kernel(std::int64_t rows) {
  constexpr TileKernel kKernels[kTileRows] = {run_two_four<1, kVectors, kControl>, run_two_four<2, kVectors, kControl>,
                                              run_two_four<3, kVectors, kControl>, run_two_four<4, kVectors, kControl>,
                                              run_two_four<5, kVectors, kControl>, run_two_four<6, kVectors, kControl>};
  return kKernels[rows - 1];
}

template <int kVectors>
TileKernel two_four_kernel(std::int64_t rows, TileControl control) {
  if (control == TileControl::kKeep) return two_four_kernel<kVectors, TileControl::kKeep>(rows);
  if (control == TileControl::kKept) return two_four_kernel<kVectors, TileControl::kKept>(rows);
  return two_four_kernel<kVectors, TileControl::kNone>(rows);
}

TileKernel dense_kernel(std::int64_t rows, std::int64_t vectors) {
  if (vectors == 4) return dense_kernel<4>(rows);
  if (vectors == 3) return dense_kernel<3>(rows);
  return vectors == 2 ? dense_kernel<2>(rows) : dense_kernel<1>(rows);
}

TileKernel two_four_kernel(std::int64_t rows, std::int64_t vectors, TileControl control) {
  if (vectors == 4) return two_four_kernel<4>(rows, control);
  if (vectors == 3) return two_four_kernel<3>(rows, control);
  return vectors == 2 ? two_four_kernel<2>(rows, control) : two_four_kernel<1>(rows, control);
}

void prepare_epilogue(const PanelEpilogueSource& source, PanelEpilogue& epilogue) {
  const Epilogue& e = *source.epilogue;
  const std::int64_t vectors = ceil_div(source.columns, kLanes);
  for (std::int64_t c = 0; c < kLanes * vectors; ++c) {
    const std::int64_t lane = lane_of(vectors, c / 4 * 4) + c % 4;
    const bool there = c < source.columns;
    std::uint32_t sum = 0;
    for (std::int64_t tap = source.taps.begin; tap < source.taps.end; tap = source.taps.next(tap)) {
      sum += static_cast<std::uint32_t>(source.sums[tap * kLanes * vectors + lane]);
    }
    // Without regard to overflow, which the sum of all makes good.
    const std::uint32_t start = static_cast<std::uint32_t>(there ? e.bias[source.first + c] : 0) +
                                sum * static_cast<std::uint32_t>(Dot::kShift - source.zero_point);
    epilogue.start[lane] = static_cast<std::int32_t>(start);
    epilogue.multiplier[lane] = there ? e.multiplier[source.first + c] : 0.0F;
    if (e.row_scale != nullptr) epilogue.real_bias[lane] = there ? e.real_bias[source.first + c] : 0.0F;
  }
  epilogue.hi = static_cast<float>(e.qmax - e.zero_point);
  epilogue.zero_point = e.zero_point;
  epilogue.qmin = e.qmin;
  epilogue.to_f32 = e.output == Epilogue::Output::kF32;
  epilogue.relu = e.relu;
  epilogue.columns = source.columns;
}

}  // namespace
}  // namespace pare::kernels
