#include "pare/kernels/add/add.h"

#include "pare/base/error.h"
#include "pare/format/elementwise.h"
#include "pare/kernels/add/add_real.h"
#include "pare/kernels/epilogue.h"
#include "pare/kernels/isa_order.h"

namespace pare::kernels {

namespace {

void run_scalar(const AddArgs& args, std::int64_t begin, std::int64_t end) {
  const AddArgs s = args;  // else the compiler must believe that a store to y changes it
  const float reciprocal = 1.0F / s.y_scale;
  const auto lo = static_cast<float>(s.qmin - s.y_zero_point);
  const auto hi = static_cast<float>(255 - s.y_zero_point);
  for (std::int64_t i = begin; i < end; ++i) {
    const float a = static_cast<float>(s.a[i] - s.a_zero_point) * s.a_scale;
    const float b = static_cast<float>(s.b[i] - s.b_zero_point) * s.b_scale;
    const float scaled = (a + b) * reciprocal;
    const float above = scaled < lo ? lo : scaled;
    const float clamped = above > hi ? hi : above;
    s.y[i] = static_cast<std::uint8_t>(round_small(clamped) + s.y_zero_point);
  }
}

void run_real_scalar(const float* a, const float* b, float* y, std::int64_t elems) {
  for (std::int64_t i = 0; i < elems; ++i) y[i] = a[i] + b[i];
}

}  // namespace

std::span<const AddKernel> add_kernels() {
  static constexpr AddKernel kTable[] = {
    {"add_u8_scalar", Isa::kScalar, run_scalar},
#if defined(__x86_64__)
    {"add_u8_avx2", Isa::kAvx2, run_add_avx2},
    {"add_u8_avx512vnni", Isa::kAvx512Vnni, run_add_avx512},
#endif
  };
  return kTable;
}

const AddKernel& find_add_kernel(Isa isa) {
  const AddKernel* found = strongest(add_kernels(), isa, [](const AddKernel&) { return true; });
  PARE_CHECK(found != nullptr);
  return *found;
}

std::span<const AddRealKernel> add_real_kernels() {
  static constexpr AddRealKernel kTable[] = {
    {"add_f32_scalar", Isa::kScalar, run_real_scalar},
#if defined(__x86_64__)
    {"add_f32_avx2", Isa::kAvx2, run_add_real_avx2},
    {"add_f32_avx512vnni", Isa::kAvx512Vnni, run_add_real_avx512},
#endif
  };
  return kTable;
}

const AddRealKernel& find_add_real_kernel(Isa isa) {
  const AddRealKernel* found = strongest(add_real_kernels(), isa, [](const AddRealKernel&) { return true; });
  PARE_CHECK(found != nullptr);
  return *found;
}

void reference_add(const AddArgs& args, std::int64_t elems) {
  const format::AffineParams a{args.a_scale, args.a_zero_point};
  const format::AffineParams b{args.b_scale, args.b_zero_point};
  const format::AffineParams y{args.y_scale, args.y_zero_point};
  for (std::int64_t i = 0; i < elems; ++i) {
    args.y[i] = static_cast<std::uint8_t>(format::add_codes(args.a[i], a, args.b[i], b, y, {args.qmin, 255}));
  }
}

}  // namespace pare::kernels
