// The tile kernels there are, by instruction set; each is defined in files compiled for it.
#pragma once

#include "pare/kernels/tile/tile.h"

namespace pare::kernels {

[[nodiscard]] TileKernel tile_dense_avx2(std::int64_t rows, std::int64_t vectors);
[[nodiscard]] TileKernel tile_two_four_avx2(std::int64_t rows, std::int64_t vectors, TileControl control);
[[nodiscard]] TileKernel tile_vnm_avx2(std::int64_t rows, std::int64_t vectors, VnmShape shape);
void gather_vnm_avx2(const TileArgs& args, VnmShape shape);
void prepare_epilogue_avx2(const PanelEpilogueSource& source, PanelEpilogue& epilogue);

[[nodiscard]] TileKernel tile_dense_avx512vnni(std::int64_t rows, std::int64_t vectors);
[[nodiscard]] TileKernel tile_two_four_avx512vnni(std::int64_t rows, std::int64_t vectors, TileControl control);
[[nodiscard]] TileKernel tile_vnm_avx512vnni(std::int64_t rows, std::int64_t vectors, VnmShape shape);
[[nodiscard]] TileKernel tile_vnm_avx512vbmi(std::int64_t rows, std::int64_t vectors, VnmShape shape, bool own_indices);
void prepare_epilogue_avx512vnni(const PanelEpilogueSource& source, PanelEpilogue& epilogue);
void finish_streams_avx512vnni();

#if defined(__aarch64__)
[[nodiscard]] TileKernel tile_dense_neon_dotprod(std::int64_t rows, std::int64_t vectors);
[[nodiscard]] TileKernel tile_two_four_neon_dotprod(std::int64_t rows, std::int64_t vectors, TileControl control);
[[nodiscard]] TileKernel tile_vnm_neon_dotprod(std::int64_t rows, std::int64_t vectors, VnmShape shape);
void prepare_epilogue_neon_dotprod(const PanelEpilogueSource& source, PanelEpilogue& epilogue);
[[nodiscard]] TileKernel tile_dense_neon_i8mm(std::int64_t rows, std::int64_t vectors);
[[nodiscard]] TileKernel tile_two_four_neon_i8mm(std::int64_t rows, std::int64_t vectors, TileControl control);
[[nodiscard]] TileKernel tile_vnm_neon_i8mm(std::int64_t rows, std::int64_t vectors, VnmShape shape);
void prepare_epilogue_neon_i8mm(const PanelEpilogueSource& source, PanelEpilogue& epilogue);
void gather_vnm_neon(const TileArgs& args, VnmShape shape);

inline constexpr TileSet kTilesNeonDotprod{tile_dense_neon_dotprod, tile_two_four_neon_dotprod, tile_vnm_neon_dotprod,
                                           gather_vnm_neon, prepare_epilogue_neon_dotprod};
inline constexpr TileSet kTilesNeonI8mm{tile_dense_neon_i8mm, tile_two_four_neon_i8mm, tile_vnm_neon_i8mm,
                                        gather_vnm_neon, prepare_epilogue_neon_i8mm};
#endif

#if defined(__x86_64__)
// Of signed panels.
inline constexpr TileSet kTilesAvx2{tile_dense_avx2, tile_two_four_avx2, tile_vnm_avx2, gather_vnm_avx2,
                                    prepare_epilogue_avx2};
inline constexpr TileSet kTilesAvx512Vnni{tile_dense_avx512vnni,       tile_two_four_avx512vnni,
                                          tile_vnm_avx512vnni,         gather_vnm_avx2,
                                          prepare_epilogue_avx512vnni, nullptr,
                                          finish_streams_avx512vnni,   true};
// The byte permutes of VBMI pick activations inside the product's loop. Of panels whose V:N:M has no gathering.
inline constexpr TileSet kTilesAvx512Vbmi{
    tile_dense_avx512vnni, tile_two_four_avx512vnni,  nullptr, nullptr, prepare_epilogue_avx512vnni,
    tile_vnm_avx512vbmi,   finish_streams_avx512vnni, true};
#endif

}  // namespace pare::kernels
