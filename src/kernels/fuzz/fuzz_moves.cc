// Kernels that move codes rather than multiply them.
#include <limits>

#include "pare/kernels/add/add.h"
#include "pare/kernels/fuzz/fuzz_case.h"
#include "pare/kernels/pool/global_average_pool.h"
#include "pare/kernels/pool/max_pool.h"
#include "pare/kernels/quantize/quantize.h"
#include "pare/kernels/transpose/transpose.h"

namespace pare::kernels::fuzz {

namespace {

using testing::Guarded;

// Codes in, codes out: reference(x, y) and run(x, y, begin, end) over `items`.
template <typename Reference, typename Run>
Outcome compare_codes(const char* kernel, Choices& choices, Rng& rng, std::int64_t in_bytes, std::int64_t out_bytes,
                      std::int64_t items, const std::string& shape, const Reference& reference, const Run& run) {
  const std::int64_t cut = choices.between(0, items);
  const std::uint8_t poison = choices.poison();
  Guarded<std::uint8_t> x(in_bytes, poison, 1, choices.against());
  Guarded<std::uint8_t> y(out_bytes, poison, 1, choices.against());
  fill(rng, x.items());
  std::vector<std::uint8_t> expected(static_cast<std::size_t>(out_bytes), poison);
  reference(x.data(), expected.data());
  std::string problem = run_watched([&] {
    in_pieces(items, cut, 1, [&](std::int64_t begin, std::int64_t end) { run(x.data(), y.data(), begin, end); });
  });
  if (problem.empty()) problem = compare(y.items(), expected);
  if (problem.empty() && !(x.guards_intact() && y.guards_intact())) problem = "it wrote beside an operand";
  return {kernel, problem.empty() ? "" : str_cat(problem, " (", shape, ", cut ", cut, ")")};
}

// Ties, far too small and far too large ones among them.
float any_scale(Rng& rng) {
  constexpr float kScales[] = {0.5F, 1.0F, 2.0F, 0.1F, 0.3F, 1e-6F, 1e6F};
  const std::uint64_t which = rng.below(14);
  return which < 7 ? kScales[which] : 0.001F + rng.uniform();
}

std::int32_t any_code(Rng& rng) { return static_cast<std::int32_t>(rng.below(256)); }

}  // namespace

Outcome fuzz_max_pool(Choices& choices) {
  const MaxPoolKernel& kernel = pick(choices, max_pool_kernels());
  MaxPoolArgs args;
  std::string shape = set_window(choices, args);
  if (choices.below(3) == 0) {  // what has code of its own
    args.kernel_h = args.kernel_w = args.stride_h = args.stride_w = 2;
    args.dilation_h = args.dilation_w = 1;
    args.pad_top = args.pad_left = 0;
    args.out_h = (args.in_h + 1) / 2;
    args.out_w = (args.in_w + 1) / 2;
    shape = str_cat("2x2 on ", args.in_h, "x", args.in_w);
  }
  args.channels = choices.between(1, 150);
  const std::int64_t batch = choices.between(0, 3);
  Rng rng = choices.numbers();
  const std::int64_t rows = batch * args.out_h;
  const auto with = [&args](const std::uint8_t* x, std::uint8_t* y) {
    MaxPoolArgs full = args;
    full.x = x;
    full.y = y;
    return full;
  };
  return compare_codes(
      kernel.name, choices, rng, batch * args.in_h * args.in_w * args.channels, rows * args.out_w * args.channels, rows,
      str_cat("batch ", batch, ", channels ", args.channels, ", ", shape),
      [&](const std::uint8_t* x, std::uint8_t* y) { reference_max_pool(with(x, y), rows); },
      [&](const std::uint8_t* x, std::uint8_t* y, std::int64_t begin, std::int64_t end) {
        kernel.run(with(x, y), begin, end);
      });
}

Outcome fuzz_average_pool(Choices& choices) {
  const GlobalAveragePoolKernel& kernel = pick(choices, global_average_pool_kernels());
  GlobalAveragePoolArgs args;
  args.pixels = choices.between(1, choices.flip() ? 9 : 400);
  args.channels = choices.between(1, 150);
  const std::int64_t batch = choices.between(0, 3);
  Rng rng = choices.numbers();
  args.x_scale = any_scale(rng);
  args.y_scale = any_scale(rng);
  args.x_zero_point = any_code(rng);
  args.y_zero_point = any_code(rng);
  const auto with = [&args](const std::uint8_t* x, std::uint8_t* y) {
    GlobalAveragePoolArgs full = args;
    full.x = x;
    full.y = y;
    return full;
  };
  return compare_codes(
      kernel.name, choices, rng, batch * args.pixels * args.channels, batch * args.channels, batch,
      str_cat("batch ", batch, ", ", args.pixels, " pixels of ", args.channels),
      [&](const std::uint8_t* x, std::uint8_t* y) { reference_global_average_pool(with(x, y), batch); },
      [&](const std::uint8_t* x, std::uint8_t* y, std::int64_t begin, std::int64_t end) {
        kernel.run(with(x, y), begin, end);
      });
}

Outcome fuzz_transpose(Choices& choices) {
  const TransposeKernel& kernel = pick(choices, transpose_kernels());
  TransposeArgs args;
  args.channels = choices.between(1, 150);
  args.pixels = choices.between(1, 150);
  const std::int64_t batch = choices.between(0, 3);
  Rng rng = choices.numbers();
  const std::int64_t bytes = batch * args.channels * args.pixels;
  const auto with = [&args](const std::uint8_t* x, std::uint8_t* y) {
    TransposeArgs full = args;
    full.x = x;
    full.y = y;
    return full;
  };
  return compare_codes(
      kernel.name, choices, rng, bytes, bytes, batch, str_cat(batch, " of ", args.pixels, "x", args.channels),
      [&](const std::uint8_t* x, std::uint8_t* y) { reference_transpose(with(x, y), batch); },
      [&](const std::uint8_t* x, std::uint8_t* y, std::int64_t begin, std::int64_t end) {
        kernel.run(with(x, y), begin, end);
      });
}

// The first half of x is a, the second b; or both are a.
Outcome fuzz_add(Choices& choices) {
  const AddKernel& kernel = pick(choices, add_kernels());
  const std::int64_t elems = choices.between(0, 700);
  const bool same = choices.below(4) == 0;
  Rng rng = choices.numbers();
  AddArgs args;
  args.a_scale = any_scale(rng);
  args.b_scale = same ? args.a_scale : any_scale(rng);
  args.y_scale = any_scale(rng);
  args.a_zero_point = any_code(rng);
  args.b_zero_point = same ? args.a_zero_point : any_code(rng);
  args.y_zero_point = any_code(rng);
  args.qmin = rng.below(2) == 0 ? 0 : args.y_zero_point;
  const auto with = [&args, elems, same](const std::uint8_t* x, std::uint8_t* y) {
    AddArgs full = args;
    full.a = x;
    full.b = same ? x : x + elems;
    full.y = y;
    return full;
  };
  return compare_codes(
      kernel.name, choices, rng, same ? elems : 2 * elems, elems, elems, str_cat(elems, " elements"),
      [&](const std::uint8_t* x, std::uint8_t* y) { reference_add(with(x, y), elems); },
      [&](const std::uint8_t* x, std::uint8_t* y, std::int64_t begin, std::int64_t end) {
        kernel.run(with(x, y), begin, end);
      });
}

Outcome fuzz_quantize_table(Choices& choices) {
  const QuantizeKernel& kernel = pick(choices, quantize_table_kernels());
  QuantizeArgs args;
  args.channels = choices.between(1, 6);
  args.pixels = choices.between(1, 300);
  const std::int64_t batch = choices.between(0, 3);
  Rng rng = choices.numbers();
  Guarded<std::uint8_t> table(args.channels * 256, choices.poison(), 1, choices.against());
  fill(rng, table.items());
  args.table = table.data();
  const std::int64_t pixels = batch * args.pixels;
  const auto with = [&args](const std::uint8_t* x, std::uint8_t* y) {
    QuantizeArgs full = args;
    full.raw = x;
    full.y = y;
    return full;
  };
  return compare_codes(
      kernel.name, choices, rng, pixels * args.channels, pixels * args.channels, pixels,
      str_cat("batch ", batch, ", ", args.pixels, " pixels of ", args.channels),
      [&](const std::uint8_t* x, std::uint8_t* y) { reference_quantize_table(with(x, y), pixels); },
      [&](const std::uint8_t* x, std::uint8_t* y, std::int64_t begin, std::int64_t end) {
        kernel.run(with(x, y), begin, end);
      });
}

// Reals of every kind, infinities and what is no number included.
Outcome fuzz_quantize_affine(Choices& choices) {
  const QuantizeKernel& kernel = pick(choices, quantize_affine_kernels());
  QuantizeArgs args;
  args.channels = choices.between(1, 6);
  args.pixels = choices.between(1, 300);
  const std::int64_t batch = choices.between(0, 3);
  Rng rng = choices.numbers();
  args.scale = any_scale(rng);
  args.zero_point = any_code(rng);
  const std::int64_t pixels = batch * args.pixels;
  Guarded<float> reals(pixels * args.channels, choices.poison(), 4, choices.against());
  constexpr float kSpecial[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                                -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::denorm_min(),
                                std::numeric_limits<float>::max(),       -0.0F};
  for (float& real : reals.items()) {
    const std::uint64_t kind = rng.below(20);
    real = kind < 6 ? kSpecial[kind]
                    : (kind < 10 ? args.scale * 0.5F * static_cast<float>(any_code(rng) - 128) : rng.normal());
  }
  args.real = reals.data();
  const auto with = [&args](std::uint8_t* y) {
    QuantizeArgs full = args;
    full.y = y;
    return full;
  };
  return compare_codes(
      kernel.name, choices, rng, 0, pixels * args.channels, pixels,
      str_cat("batch ", batch, ", ", args.pixels, " pixels of ", args.channels),
      [&](const std::uint8_t* /*x*/, std::uint8_t* y) { reference_quantize_affine(with(y), pixels); },
      [&](const std::uint8_t* /*x*/, std::uint8_t* y, std::int64_t begin, std::int64_t end) {
        kernel.run(with(y), begin, end);
      });
}

Outcome fuzz(Operation operation, Choices& choices) {
  switch (operation) {
    case Operation::kGemm:
      return fuzz_gemm(choices);
    case Operation::kConv:
      return fuzz_conv(choices);
    case Operation::kDepthwise:
      return fuzz_depthwise(choices);
    case Operation::kMaxPool:
      return fuzz_max_pool(choices);
    case Operation::kAveragePool:
      return fuzz_average_pool(choices);
    case Operation::kQuantizeTable:
      return fuzz_quantize_table(choices);
    case Operation::kQuantizeAffine:
      return fuzz_quantize_affine(choices);
    case Operation::kTranspose:
      return fuzz_transpose(choices);
    case Operation::kAdd:
      return fuzz_add(choices);
    case Operation::kCount:
      break;
  }
  return {};
}

}  // namespace pare::kernels::fuzz
