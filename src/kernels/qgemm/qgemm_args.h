// Operands of a quantized matrix product (qgemm.h), and what the kernels of its table are made from. Includes nothing
// that files compiled for one instruction set may not include.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pare/kernels/epilogue.h"
#include "pare/kernels/weights.h"

namespace pare::kernels {

struct QGemmArgs {
  const std::uint8_t* a = nullptr;
  std::int64_t a_stride_bytes = 0;  // between rows of A
  std::int32_t a_zero_point = 0;
  const void* packed = nullptr;  // what pack() wrote
  void* c = nullptr;
  std::int64_t c_stride_elems = 0;  // between rows of C
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  Epilogue epilogue;
};

// Implementations, named as the table names them. The packings of the scalar ones are dot/dot_s16.h's.
inline std::size_t qgemm_no_scratch(const QGemmArgs& /*args*/) { return 0; }
void qgemm_run_s16(const QGemmArgs& args, std::int64_t m_begin, std::int64_t m_end, std::int64_t n_begin,
                   std::int64_t n_end, void* scratch);

// Of tile/tile.h's packings, which args.packed must point to.
std::size_t qgemm_tile_scratch(const QGemmArgs& args);
void qgemm_run_avx2(const QGemmArgs& args, std::int64_t m_begin, std::int64_t m_end, std::int64_t n_begin,
                    std::int64_t n_end, void* scratch);
void qgemm_run_avx512vnni(const QGemmArgs& args, std::int64_t m_begin, std::int64_t m_end, std::int64_t n_begin,
                          std::int64_t n_end, void* scratch);
void qgemm_run_avx512vbmi(const QGemmArgs& args, std::int64_t m_begin, std::int64_t m_end, std::int64_t n_begin,
                          std::int64_t n_end, void* scratch);
void qgemm_run_neon_dotprod(const QGemmArgs& args, std::int64_t m_begin, std::int64_t m_end, std::int64_t n_begin,
                            std::int64_t n_end, void* scratch);
void qgemm_run_neon_i8mm(const QGemmArgs& args, std::int64_t m_begin, std::int64_t m_end, std::int64_t n_begin,
                         std::int64_t n_end, void* scratch);

// Of block/block_tile.h's packing.
std::size_t qgemm_block_scratch(const QGemmArgs& args);
void qgemm_run_block_avx512vnni(const QGemmArgs& args, std::int64_t m_begin, std::int64_t m_end, std::int64_t n_begin,
                                std::int64_t n_end, void* scratch);

}  // namespace pare::kernels
