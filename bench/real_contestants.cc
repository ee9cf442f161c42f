#include "bench/real_contestants.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "pare/base/strings.h"
#include "pare/kernels/quantize_rows/quantize_rows.h"
#include "pare/kernels/testing/random_nbits.h"

namespace pare::bench {
namespace {

// Activations as codes, quantized at every call.
struct Quantized {
  const kernels::QuantizeRowsKernel* kernel = nullptr;
  std::shared_ptr<HugeBuffer<float>> x;
  HugeBuffer<std::uint8_t> codes;
  HugeBuffer<float> scale;
  kernels::QuantizeRowsArgs args;

  Quantized(const GemmShape& shape, std::shared_ptr<HugeBuffer<float>> reals, std::uint8_t zero_point, Isa isa)
      : kernel(&kernels::find_quantize_rows_kernel(isa)),
        x(std::move(reals)),
        codes(static_cast<std::size_t>(shape.m * stride_of(shape.k))),
        scale(static_cast<std::size_t>(shape.m)),
        args{x->data(),  shape.k,     shape.k, codes.data(), stride_of(shape.k), kernels::nbits_k_padded(shape.k),
             zero_point, scale.data()} {}

  // 64 bytes longer than a row, as the runtime lays them out.
  static std::int64_t stride_of(std::int64_t k) { return kernels::nbits_k_padded(k) + 64; }
};

struct OwnInt4 {
  kernels::testing::StoredNBits weights;
  Quantized a;
  std::vector<HugeBuffer<std::uint8_t>> packed;
  HugeBuffer<float> c;
  HugeBuffer<std::uint8_t> scratch;
  kernels::MatMulNBitsArgs args;
  const kernels::MatMulNBitsKernel* kernel = nullptr;

  void run() {
    a.kernel->run(a.args, 0, args.m);
    for (const HugeBuffer<std::uint8_t>& layer : packed) {
      args.packed = layer.data();
      kernel->run(args, 0, args.m, 0, args.n, scratch.data());
    }
  }
};

struct OwnDynamic {
  Weights weights;
  Scaling scaling;
  std::vector<float> real_bias;
  Quantized a;
  HugeBuffer<std::uint8_t> packed;
  HugeBuffer<float> c;
  HugeBuffer<std::uint8_t> scratch;
  kernels::QGemmArgs args;
  const kernels::QGemmKernel* kernel = nullptr;

  void run() {
    a.kernel->run(a.args, 0, args.m);
    kernel->run(args, 0, args.m, 0, args.n, scratch.data());
  }
};

template <typename Own>
Prepared prepared_of(std::shared_ptr<Own> own, const Pattern& pattern, const std::vector<float>& expected) {
  Prepared prepared;
  prepared.contestant.name = own->kernel->name;
  prepared.contestant.run = [own = own.get()] { own->run(); };
  prepared.pattern = pattern;
  prepared.isa = own->kernel->isa;
  prepared.output = reinterpret_cast<const std::uint8_t*>(own->c.data());
  own->run();
  if (std::memcmp(expected.data(), own->c.data(), expected.size() * sizeof(float)) != 0) {
    prepared.trouble.push_back(str_cat(own->kernel->name, " differs from the reference"));
  }
  prepared.keep = std::move(own);
  return prepared;
}

}  // namespace

RealGemmField::RealGemmField(const GemmShape& shape, std::uint64_t seed)
    : shape_(shape), seed_(seed), x_(std::make_shared<HugeBuffer<float>>(static_cast<std::size_t>(shape.m * shape.k))) {
  Rng rng(seed_, 1);
  for (std::int64_t i = 0; i < shape_.m * shape_.k; ++i) x_->data()[i] = rng.normal();
}

Prepared RealGemmField::int4(const Pattern& pattern, std::int64_t group, Isa isa) const {
  const auto form =
      pattern.format == kernels::WeightFormat::kDense ? kernels::NBitsForm::kDense : kernels::NBitsForm::kTwoFour;
  const kernels::MatMulNBitsKernel& kernel = kernels::find_matmul_nbits_kernel(form, isa);
  Rng rng(seed_, 2);
  auto own = std::make_shared<OwnInt4>(OwnInt4{kernels::testing::random_nbits(rng, form, shape_.n, shape_.k, group),
                                               Quantized(shape_, x_, kernel.a_zero_point, isa),
                                               {},
                                               HugeBuffer<float>(static_cast<std::size_t>(shape_.m * shape_.n)),
                                               {},
                                               {},
                                               &kernel});
  for (std::int64_t layer = 0; layer < shape_.layers; ++layer) {
    own->packed.emplace_back(kernel.packed_bytes(own->weights.view()));
    kernel.pack(own->weights.view(), own->packed.back().data());
  }
  own->args = {.a = own->a.codes.data(),
               .a_stride_bytes = own->a.args.codes_stride_bytes,
               .a_scale = own->a.scale.data(),
               .packed = own->packed.front().data(),
               .c = own->c.data(),
               .c_stride_elems = shape_.n,
               .m = shape_.m,
               .n = shape_.n,
               .k = shape_.k};
  own->scratch = HugeBuffer<std::uint8_t>(kernel.scratch_bytes(own->args));
  own->a.kernel->run(own->a.args, 0, shape_.m);
  std::vector<float> expected(static_cast<std::size_t>(shape_.m * shape_.n));
  kernels::MatMulNBitsArgs reference = own->args;
  reference.c = expected.data();
  kernels::reference_matmul_nbits(reference, own->weights.view(), form, kernel.a_zero_point);
  return prepared_of(std::move(own), pattern, expected);
}

Prepared RealGemmField::dynamic_int8(const Pattern& pattern, Isa isa) const {
  constexpr std::uint8_t kZeroPoint = 128;
  Rng rng(seed_, 2);
  Weights weights = random_weights(rng, pattern, shape_.n, 1, shape_.k);
  Scaling scaling = random_scaling(rng, pattern, shape_.n, shape_.k);
  std::fill(scaling.bias.begin(), scaling.bias.end(), 0);
  const kernels::QGemmKernel& kernel = kernels::find_qgemm_kernel(pattern.format, isa);
  auto own = std::make_shared<OwnDynamic>(OwnDynamic{std::move(weights),
                                                     std::move(scaling),
                                                     std::vector<float>(static_cast<std::size_t>(shape_.n), 0.5F),
                                                     Quantized(shape_, x_, kZeroPoint, isa),
                                                     {},
                                                     HugeBuffer<float>(static_cast<std::size_t>(shape_.m * shape_.n)),
                                                     {},
                                                     {},
                                                     &kernel});
  own->packed = HugeBuffer<std::uint8_t>(kernel.packed_bytes(own->weights.view()));
  kernel.pack(own->weights.view(), own->packed.data());
  kernels::QGemmArgs& args = own->args;
  args.a = own->a.codes.data();
  args.a_stride_bytes = own->a.args.codes_stride_bytes;
  args.a_zero_point = kZeroPoint;
  args.packed = own->packed.data();
  args.c = own->c.data();
  args.c_stride_elems = shape_.n;
  args.m = shape_.m;
  args.n = shape_.n;
  args.k = shape_.k;
  args.epilogue.output = kernels::Epilogue::Output::kF32;
  args.epilogue.bias = own->scaling.bias.data();
  args.epilogue.multiplier = own->scaling.multiplier.data();
  args.epilogue.row_scale = own->a.scale.data();
  args.epilogue.real_bias = own->real_bias.data();
  own->scratch = HugeBuffer<std::uint8_t>(kernel.scratch_bytes(args));
  own->a.kernel->run(own->a.args, 0, shape_.m);
  std::vector<float> expected(static_cast<std::size_t>(shape_.m * shape_.n));
  kernels::QGemmArgs reference = args;
  reference.c = expected.data();
  kernels::reference_qgemm(reference, own->weights.view(), pattern.format);
  return prepared_of(std::move(own), pattern, expected);
}

}  // namespace pare::bench
