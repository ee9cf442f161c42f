// V:N:M tiles made of two parts: the dense tile over what was gathered, then the next tile's gathering.
#include "pare/kernels/tile/tile_sets.h"

namespace pare::kernels {

namespace {

using DenseKernels = TileKernel (*)(std::int64_t rows, std::int64_t vectors);
using GatherRows = void (*)(const TileArgs& args, VnmShape shape);

template <DenseKernels kDense, GatherRows kGather, int kShape, int kRows, int kVectors>
void run(const TileArgs& args) {
  TileArgs dense = args;
  const std::uint8_t* rows[kTileRows];
  for (std::int64_t r = 0; r < kTileRows; ++r) rows[r] = args.gathered + (r < kRows ? r : 0) * args.gathered_stride;
  dense.rows = rows;
  dense.taps = 1;
  dense.line_taps = 1;
  dense.c = args.taps * kVnmShapes[kShape].kept(args.c);
  kDense(kRows, kVectors)(dense);
  kGather(args, kVnmShapes[kShape]);
}

template <DenseKernels kDense, GatherRows kGather, int kShape, int kRows>
TileKernel of_vectors(std::int64_t vectors) {
  constexpr TileKernel kKernels[] = {run<kDense, kGather, kShape, kRows, 1>, run<kDense, kGather, kShape, kRows, 2>,
                                     run<kDense, kGather, kShape, kRows, 3>, run<kDense, kGather, kShape, kRows, 4>};
  return kKernels[vectors - 1];
}

template <DenseKernels kDense, GatherRows kGather, int kShape>
TileKernel of_rows(std::int64_t rows, std::int64_t vectors) {
  constexpr TileKernel (*kOfVectors[])(std::int64_t) = {
      of_vectors<kDense, kGather, kShape, 1>, of_vectors<kDense, kGather, kShape, 2>,
      of_vectors<kDense, kGather, kShape, 3>, of_vectors<kDense, kGather, kShape, 4>,
      of_vectors<kDense, kGather, kShape, 5>, of_vectors<kDense, kGather, kShape, 6>};
  return kOfVectors[rows - 1](vectors);
}

template <DenseKernels kDense, GatherRows kGather>
TileKernel of_shape(std::int64_t rows, std::int64_t vectors, VnmShape shape) {
  constexpr TileKernel (*kOfRows[])(std::int64_t, std::int64_t) = {
      of_rows<kDense, kGather, 0>, of_rows<kDense, kGather, 1>, of_rows<kDense, kGather, 2>,
      of_rows<kDense, kGather, 3>, of_rows<kDense, kGather, 4>};
  return kOfRows[vnm_index(shape)](rows, vectors);
}

}  // namespace

#if defined(__x86_64__)
TileKernel tile_vnm_avx2(std::int64_t rows, std::int64_t vectors, VnmShape shape) {
  return of_shape<tile_dense_avx2, gather_vnm_avx2>(rows, vectors, shape);
}

TileKernel tile_vnm_avx512vnni(std::int64_t rows, std::int64_t vectors, VnmShape shape) {
  return of_shape<tile_dense_avx512vnni, gather_vnm_avx2>(rows, vectors, shape);
}
#endif
#if defined(__aarch64__)
TileKernel tile_vnm_neon_dotprod(std::int64_t rows, std::int64_t vectors, VnmShape shape) {
  return of_shape<tile_dense_neon_dotprod, gather_vnm_neon>(rows, vectors, shape);
}

TileKernel tile_vnm_neon_i8mm(std::int64_t rows, std::int64_t vectors, VnmShape shape) {
  return of_shape<tile_dense_neon_i8mm, gather_vnm_neon>(rows, vectors, shape);
}
#endif

}  // namespace pare::kernels
