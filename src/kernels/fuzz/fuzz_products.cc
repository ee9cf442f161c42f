// Matrix products and convolutions.
#include "pare/kernels/depthwise/depthwise.h"
#include "pare/kernels/fuzz/fuzz_case.h"
#include "pare/kernels/qconv/qconv.h"
#include "pare/kernels/qgemm/qgemm.h"
#include "pare/kernels/testing/random_weights.h"

namespace pare::kernels::fuzz {

namespace {

using testing::Guarded;

// Mostly what fits a few tiles, at times a length of many steps.
std::int64_t inner_length(Choices& choices) {
  return choices.below(8) == 0 ? choices.between(500, 1100) : choices.between(0, 140);
}

std::int64_t output_columns(Choices& choices) {
  return choices.below(4) == 0 ? choices.between(0, 5) : choices.between(1, 140);
}

// What both products need between guards.
struct Operands {
  Guarded<std::uint8_t> a, packed, out;
  Guarded<std::int32_t> bias;
  Guarded<float> multiplier;
  std::vector<std::uint8_t> expected;  // as `out`, what lies between rows of it included

  Operands(Choices& choices, Rng& rng, std::int64_t a_bytes, std::int64_t packed_bytes, std::int64_t out_bytes,
           const testing::RandomEpilogue& random, std::uint8_t poison)
      : a(a_bytes, poison, 1, choices.against()),
        packed(packed_bytes, poison, 64, choices.against()),
        out(out_bytes, poison, 4, choices.against()),
        bias(static_cast<std::int64_t>(random.bias.size()), poison, 4, choices.against()),
        multiplier(static_cast<std::int64_t>(random.multiplier.size()), poison, 4, choices.against()),
        expected(static_cast<std::size_t>(out_bytes), poison) {
    fill(rng, a.items());
    bias.assign(random.bias);
    multiplier.assign(random.multiplier);
  }

  void point(Epilogue& epilogue) {
    epilogue.bias = bias.data();
    epilogue.multiplier = multiplier.data();
  }

  [[nodiscard]] std::string verdict(bool scratch_intact) {
    if (std::string difference = compare(out.items(), expected); !difference.empty()) return difference;
    const bool intact = a.guards_intact() && packed.guards_intact() && out.guards_intact() && bias.guards_intact() &&
                        multiplier.guards_intact() && scratch_intact;
    return intact ? "" : "it wrote beside an operand";
  }
};

std::int64_t elem_bytes(const Epilogue& epilogue) { return epilogue.output == Epilogue::Output::kU8 ? 1 : 4; }

Outcome with(const char* kernel, const std::string& problem, const std::string& shape) {
  return {kernel, problem.empty() ? "" : str_cat(problem, " (", shape, ")")};
}

}  // namespace

Outcome fuzz_gemm(Choices& choices) {
  const QGemmKernel& kernel = pick(choices, qgemm_kernels());
  QGemmArgs args;
  args.m = choices.between(0, choices.flip() ? 8 : 40);
  args.n = output_columns(choices);
  args.k = inner_length(choices);
  args.a_stride_bytes = args.k + choices.below(70);
  args.c_stride_elems = args.n + choices.below(20);
  const std::int64_t m_cut = choices.between(0, args.m);
  const std::int64_t n_cut = choices.between(0, args.n);
  const auto pattern = static_cast<std::size_t>(choices.below(7));
  const std::uint8_t poison = choices.poison();
  Rng rng = choices.numbers();
  const testing::StoredWeights weights =
      testing::random_weights(rng, kernel.format, args.n, 1, args.k, testing::vnm_pattern(kernel.isa, pattern));
  const testing::RandomEpilogue random = testing::random_epilogue(rng, args.n, args.k);
  args.a_zero_point = static_cast<std::int32_t>(rng.below(256));
  args.epilogue = random.epilogue;
  const auto last_row = [&](std::int64_t stride, std::int64_t length) {
    return args.m == 0 ? 0 : (args.m - 1) * stride + length;
  };
  Operands operands(choices, rng, last_row(args.a_stride_bytes, args.k),
                    static_cast<std::int64_t>(kernel.packed_bytes(weights.view())),
                    last_row(args.c_stride_elems, args.n) * elem_bytes(args.epilogue), random, poison);
  kernel.pack(weights.view(), operands.packed.data());
  operands.point(args.epilogue);
  args.a = operands.a.data();
  args.packed = operands.packed.data();
  args.c = operands.expected.data();
  reference_qgemm(args, weights.reference_view(), weights.reference_format());
  args.c = operands.out.data();
  Guarded<std::uint8_t> scratch(static_cast<std::int64_t>(kernel.scratch_bytes(args)), poison, 64, choices.against());
  std::string problem = run_watched([&] {
    in_pieces(args.n, n_cut, kernel.n_tile, [&](std::int64_t n_begin, std::int64_t n_end) {
      in_pieces(args.m, m_cut, 1, [&](std::int64_t m_begin, std::int64_t m_end) {
        kernel.run(args, m_begin, m_end, n_begin, n_end, scratch.data());
      });
    });
  });
  if (problem.empty()) problem = operands.verdict(scratch.guards_intact());
  return with(kernel.name, problem,
              str_cat("m ", args.m, " n ", args.n, " k ", args.k, ", strides ", args.a_stride_bytes, " and ",
                      args.c_stride_elems, ", cuts ", m_cut, " and ", n_cut, ", pattern ", pattern));
}

Outcome fuzz_conv(Choices& choices) {
  const QConvKernel& kernel = pick(choices, qconv_kernels());
  QConvArgs args;
  QConvShape& s = args.shape;
  const std::string window = set_window(choices, s);
  s.in_c = choices.below(3) == 0 ? choices.between(1, 15) : choices.between(16, 100);
  s.out_c = output_columns(choices);
  const std::int64_t batch = choices.between(0, 3);
  const std::int64_t rows = batch * s.out_h;
  const std::int64_t cut = choices.between(0, rows);
  const auto pattern = static_cast<std::size_t>(choices.below(7));
  const std::uint8_t poison = choices.poison();
  Rng rng = choices.numbers();
  const std::int64_t taps = s.kernel_h * s.kernel_w;
  const testing::StoredWeights weights =
      testing::random_weights(rng, kernel.format, s.out_c, taps, s.in_c, testing::vnm_pattern(kernel.isa, pattern));
  const CanonicalWeights view = weights.view(s.dilation_w == 1 ? s.kernel_w : 1);
  if (!testing::packs(kernel, view)) return {kernel.name, ""};
  const testing::RandomEpilogue random = testing::random_epilogue(rng, s.out_c, taps * s.in_c);
  args.x_zero_point = static_cast<std::int32_t>(rng.below(256));
  args.epilogue = random.epilogue;
  Operands operands(choices, rng, batch * s.in_h * s.in_w * s.in_c,
                    static_cast<std::int64_t>(kernel.packed_bytes(view)),
                    rows * s.out_w * s.out_c * elem_bytes(args.epilogue), random, poison);
  kernel.pack(view, operands.packed.data());
  operands.point(args.epilogue);
  args.x = operands.a.data();
  args.packed = operands.packed.data();
  args.y = operands.expected.data();
  reference_qconv(args, weights.reference_view(), weights.reference_format(), rows);
  args.y = operands.out.data();
  Guarded<std::uint8_t> scratch(static_cast<std::int64_t>(kernel.scratch_bytes(args)), poison, 64, choices.against());
  std::string problem = run_watched([&] {
    in_pieces(rows, cut, 1,
              [&](std::int64_t begin, std::int64_t end) { kernel.run(args, begin, end, scratch.data()); });
  });
  if (problem.empty()) problem = operands.verdict(scratch.guards_intact());
  return with(kernel.name, problem,
              str_cat("batch ", batch, ", channels ", s.in_c, " -> ", s.out_c, ", ", window, ", cut ", cut,
                      ", pattern ", pattern));
}

Outcome fuzz_depthwise(Choices& choices) {
  const DepthwiseKernel& kernel = pick(choices, depthwise_kernels());
  DepthwiseArgs args;
  const std::string window = set_window(choices, args);
  args.channels = choices.between(1, 150);
  const std::int64_t batch = choices.between(0, 3);
  const std::int64_t rows = batch * args.out_h;
  const std::int64_t cut = choices.between(0, rows);
  const std::uint8_t poison = choices.poison();
  Rng rng = choices.numbers();
  const testing::RandomEpilogue random = testing::random_epilogue(rng, args.channels, args.kernel_h * args.kernel_w);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(args.channels * args.kernel_h * args.kernel_w));
  fill(rng, codes);
  const std::vector<std::int8_t> values(codes.begin(), codes.end());
  args.x_zero_point = static_cast<std::int32_t>(rng.below(256));
  args.y_zero_point = random.epilogue.zero_point;
  args.qmin = random.epilogue.qmin;
  const DepthwiseWeights weights{args.channels,    args.kernel_h,      args.kernel_w,
                                 values.data(),    random.bias.data(), random.multiplier.data(),
                                 args.x_zero_point};
  Operands operands(choices, rng, batch * args.in_h * args.in_w * args.channels,
                    static_cast<std::int64_t>(kernel.packed_bytes(weights)), rows * args.out_w * args.channels, random,
                    poison);
  kernel.pack(weights, operands.packed.data());
  args.x = operands.a.data();
  args.packed = operands.packed.data();
  args.y = operands.expected.data();
  reference_depthwise(args, weights, rows);
  args.y = operands.out.data();
  std::string problem = run_watched(
      [&] { in_pieces(rows, cut, 1, [&](std::int64_t begin, std::int64_t end) { kernel.run(args, begin, end); }); });
  if (problem.empty()) problem = operands.verdict(true);
  return with(kernel.name, problem,
              str_cat("batch ", batch, ", channels ", args.channels, ", ", window, ", cut ", cut));
}

}  // namespace pare::kernels::fuzz
