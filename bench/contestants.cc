#include "bench/contestants.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::bench {
namespace {

constexpr std::int32_t kZeroPoint = 117;  // of the activations

// Layers of one shape hold equal weights in different memory: a cache tells them apart all the same.
struct OwnGemm {
  Weights weights;
  Scaling scaling;
  std::vector<HugeBuffer<std::uint8_t>> packed;
  std::shared_ptr<HugeBuffer<std::uint8_t>> a;
  HugeBuffer<std::uint8_t> c;
  HugeBuffer<std::uint8_t> scratch;
  std::size_t scratch_stride = 0;
  kernels::QGemmArgs args;
  const kernels::QGemmKernel* kernel = nullptr;

  void run_layer(std::size_t layer, ThreadPool* pool) {
    args.packed = packed[layer].data();
    if (pool == nullptr) {
      kernel->run(args, 0, args.m, 0, args.n, scratch.data());
      return;
    }
    // One range of columns a thread: each reads its own weights only.
    const std::int64_t tiles = (args.n + kernel->n_tile - 1) / kernel->n_tile;
    const auto parts = static_cast<std::int64_t>(pool->threads());
    pool->parallel_for_slots(pool->threads(), [&](std::size_t slot, std::size_t index) {
      const auto part = static_cast<std::int64_t>(index);
      const std::int64_t begin = tiles * part / parts * kernel->n_tile;
      const std::int64_t end = std::min(tiles * (part + 1) / parts * kernel->n_tile, args.n);
      kernel->run(args, 0, args.m, begin, end, scratch.data() + slot * scratch_stride);
    });
  }
};

// Bit for bit against the scalar reference: all rows, or eight of them where all would take minutes.
std::string check(OwnGemm& own, ThreadPool* pool) {
  constexpr std::int64_t kMostProducts = std::int64_t{1} << 27;
  own.run_layer(own.packed.size() - 1, pool);
  const kernels::QGemmArgs& args = own.args;
  std::vector<std::uint8_t> expected(static_cast<std::size_t>(args.n));
  const bool all = args.m * args.n * args.k <= kMostProducts;
  const std::int64_t step = all ? 1 : std::max<std::int64_t>(1, args.m / 7);
  for (std::int64_t row = 0; row < args.m; row += step) {
    kernels::QGemmArgs one = args;
    one.a = args.a + row * args.a_stride_bytes;
    one.c = expected.data();
    one.m = 1;
    kernels::reference_qgemm(one, own.weights.view(), own.weights.pattern.format);
    if (std::memcmp(expected.data(), own.c.data() + row * args.c_stride_elems, expected.size()) != 0) {
      return str_cat(own.kernel->name, " differs from the reference in row ", row);
    }
  }
  return {};
}

struct Peer {
  std::vector<OneDnn::Primitive> primitives;
  std::shared_ptr<HugeBuffer<std::uint8_t>> input;
  HugeBuffer<std::uint8_t> output;
};

Prepared peer_contestant(std::shared_ptr<Peer> peer) {
  Prepared prepared;
  prepared.contestant.name = peer->primitives.front().name;
  prepared.contestant.run = [peer = peer.get()] {
    for (const OneDnn::Primitive& primitive : peer->primitives) primitive.run();
  };
  prepared.is_peer = true;
  prepared.pattern = dense_pattern();
  prepared.keep = std::move(peer);
  return prepared;
}

// Empty if no code differs by more than 1: rounding halves and adding the bias may be done in another order.
std::string differs(const std::string& name, const std::uint8_t* got, const std::uint8_t* expected,
                    std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    if (std::abs(got[i] - expected[i]) > 1) {
      return str_cat(name, " gives ", int{got[i]}, " for output ", i, ", pare gives ", int{expected[i]});
    }
  }
  return {};
}

// Every oneDNN on `conv`, whose output is made here.
std::vector<Prepared> convolution_peers(const std::vector<OneDnn>& onednn, OneDnnConv conv,
                                        const std::shared_ptr<HugeBuffer<std::uint8_t>>& x, const Prepared& own_dense) {
  std::vector<Prepared> peers;
  for (const OneDnn& version : onednn) {
    auto peer = std::make_shared<Peer>();
    peer->input = x;
    peer->output = HugeBuffer<std::uint8_t>(static_cast<std::size_t>(conv.extent * conv.extent * conv.out_c));
    conv.y = peer->output.data();
    peer->primitives.push_back(version.make(conv));
    if (peer->primitives.front().handle == nullptr) continue;
    Prepared prepared = peer_contestant(peer);
    prepared.contestant.run();
    // oneDNN is given no zero point, so its padding means another real number than ours: it does less work, and only
    // the pixels whose taps all lie within the image are comparable.
    const std::int64_t border = conv.padding;
    for (std::int64_t row = border; row < conv.extent - border && prepared.trouble.empty(); ++row) {
      const std::int64_t first = (row * conv.extent + border) * conv.out_c;
      std::string trouble = differs(prepared.contestant.name, peer->output.data() + first, own_dense.output + first,
                                    (conv.extent - 2 * border) * conv.out_c);
      if (!trouble.empty()) prepared.trouble.push_back(std::move(trouble));
    }
    peers.push_back(std::move(prepared));
  }
  return peers;
}

std::string extent_name(std::int64_t extent) { return str_cat(extent, "x", extent); }

}  // namespace

std::string GemmShape::name() const {
  const std::string one = str_cat(m, "x", n, "x", k);
  return layers == 1 ? one : str_cat(layers, " layers ", one);
}

std::string ConvShape::name() const {
  return str_cat(extent_name(kernel), " ", extent_name(extent), " ", in_c, "-", out_c);
}

std::string DepthwiseShape::name() const {
  return str_cat(extent_name(kernel), " ", extent_name(extent), " ", channels);
}

GemmField::GemmField(const GemmShape& shape, std::uint64_t seed)
    : shape_(shape),
      seed_(seed),
      padded_(std::make_shared<HugeBuffer<std::uint8_t>>(static_cast<std::size_t>(shape.m * (shape.k + 64)))),
      plain_(std::make_shared<HugeBuffer<std::uint8_t>>(static_cast<std::size_t>(shape.m * shape.k))) {
  Rng rng(seed_, 1);
  fill_codes(rng, plain_->data(), shape_.m * shape_.k);
  for (std::int64_t row = 0; row < shape_.m; ++row) {
    std::memcpy(padded_->data() + row * (shape_.k + 64), plain_->data() + row * shape_.k,
                static_cast<std::size_t>(shape_.k));
  }
}

Prepared GemmField::own(const Pattern& pattern, Isa isa, ThreadPool* pool) const {
  auto own = std::make_shared<OwnGemm>();
  Rng rng(seed_, 2);
  own->weights = random_weights(rng, pattern, shape_.n, 1, shape_.k);
  own->scaling = random_scaling(rng, pattern, shape_.n, shape_.k);
  own->kernel = &kernels::find_qgemm_kernel(pattern.format, isa);
  const kernels::CanonicalWeights view = own->weights.view();
  for (std::int64_t layer = 0; layer < shape_.layers; ++layer) {
    own->packed.emplace_back(own->kernel->packed_bytes(view));
    own->kernel->pack(view, own->packed.back().data());
  }
  own->a = padded_;
  own->c = HugeBuffer<std::uint8_t>(static_cast<std::size_t>(shape_.m * shape_.n));
  own->args.a = own->a->data();
  own->args.a_stride_bytes = shape_.k + 64;
  own->args.a_zero_point = kZeroPoint;
  own->args.c = own->c.data();
  own->args.c_stride_elems = shape_.n;
  own->args.m = shape_.m;
  own->args.n = shape_.n;
  own->args.k = shape_.k;
  own->args.epilogue.bias = own->scaling.bias.data();
  own->args.epilogue.multiplier = own->scaling.multiplier.data();
  own->args.packed = own->packed.front().data();  // scratch_bytes() reads it
  own->scratch_stride = (own->kernel->scratch_bytes(own->args) + 63) / 64 * 64;
  own->scratch = HugeBuffer<std::uint8_t>(own->scratch_stride * (pool == nullptr ? 1 : pool->threads()));

  Prepared prepared;
  prepared.contestant.name = own->kernel->name;
  prepared.contestant.run = [own = own.get(), pool] {
    for (std::size_t layer = 0; layer < own->packed.size(); ++layer) own->run_layer(layer, pool);
  };
  prepared.pattern = pattern;
  prepared.isa = own->kernel->isa;
  prepared.output = own->c.data();
  if (std::string trouble = check(*own, pool); !trouble.empty()) prepared.trouble.push_back(std::move(trouble));
  prepared.keep = std::move(own);
  return prepared;
}

std::vector<Prepared> GemmField::peers(const std::vector<OneDnn>& onednn, const Prepared& own_dense) const {
  const Pattern pattern = dense_pattern();
  Rng rng(seed_, 2);
  const Weights weights = random_weights(rng, pattern, shape_.n, 1, shape_.k);
  const Scaling scaling = random_scaling(rng, pattern, shape_.n, shape_.k);
  const std::vector<std::int32_t> bias = fold_zero_point(scaling.bias, weights.values, kZeroPoint);

  std::vector<Prepared> peers;
  for (const OneDnn& version : onednn) {
    for (const std::int32_t use_inner_product : {0, 1}) {
      auto peer = std::make_shared<Peer>();
      peer->input = plain_;
      peer->output = HugeBuffer<std::uint8_t>(static_cast<std::size_t>(shape_.m * shape_.n));
      const OneDnnGemm gemm{shape_.m,
                            shape_.n,
                            shape_.k,
                            plain_->data(),
                            weights.values.data(),
                            bias.data(),
                            scaling.multiplier.data(),
                            peer->output.data(),
                            use_inner_product};
      for (std::int64_t layer = 0; layer < shape_.layers; ++layer) peer->primitives.push_back(version.make(gemm));
      if (peer->primitives.front().handle == nullptr) continue;
      Prepared prepared = peer_contestant(peer);
      prepared.contestant.run();
      std::string trouble =
          differs(prepared.contestant.name, peer->output.data(), own_dense.output, shape_.m * shape_.n);
      if (!trouble.empty()) prepared.trouble.push_back(std::move(trouble));
      peers.push_back(std::move(prepared));
    }
  }
  return peers;
}

namespace {

struct OwnConv {
  Weights weights;
  Scaling scaling;
  HugeBuffer<std::uint8_t> packed;
  std::shared_ptr<HugeBuffer<std::uint8_t>> x;
  HugeBuffer<std::uint8_t> y;
  HugeBuffer<std::uint8_t> scratch;
  kernels::QConvArgs args;
  const kernels::QConvKernel* kernel = nullptr;
};

}  // namespace

ConvField::ConvField(const ConvShape& shape, std::uint64_t seed)
    : shape_(shape),
      seed_(seed),
      x_(std::make_shared<HugeBuffer<std::uint8_t>>(
          static_cast<std::size_t>(shape.extent * shape.extent * shape.in_c))) {
  Rng rng(seed_, 1);
  fill_codes(rng, x_->data(), shape_.extent * shape_.extent * shape_.in_c);
}

Prepared ConvField::own(const Pattern& pattern, Isa isa) const {
  auto own = std::make_shared<OwnConv>();
  const std::int64_t taps = shape_.kernel * shape_.kernel;
  Rng rng(seed_, 2);
  own->weights = random_weights(rng, pattern, shape_.out_c, taps, shape_.in_c);
  own->scaling = random_scaling(rng, pattern, shape_.out_c, taps * shape_.in_c);
  own->kernel = &kernels::find_qconv_kernel(pattern.format, isa);
  own->packed = HugeBuffer<std::uint8_t>(own->kernel->packed_bytes(own->weights.view()));
  own->kernel->pack(own->weights.view(), own->packed.data());
  own->x = x_;
  const std::int64_t outputs = shape_.extent * shape_.extent * shape_.out_c;
  own->y = HugeBuffer<std::uint8_t>(static_cast<std::size_t>(outputs));
  kernels::QConvShape& s = own->args.shape;
  s.in_h = s.in_w = s.out_h = s.out_w = shape_.extent;
  s.in_c = shape_.in_c;
  s.out_c = shape_.out_c;
  s.kernel_h = s.kernel_w = shape_.kernel;
  s.pad_top = s.pad_left = shape_.kernel / 2;
  own->args.x = x_->data();
  own->args.x_zero_point = kZeroPoint;
  own->args.packed = own->packed.data();
  own->args.y = own->y.data();
  own->args.epilogue.bias = own->scaling.bias.data();
  own->args.epilogue.multiplier = own->scaling.multiplier.data();
  own->scratch = HugeBuffer<std::uint8_t>(own->kernel->scratch_bytes(own->args));

  Prepared prepared;
  prepared.contestant.name = own->kernel->name;
  prepared.contestant.run = [own = own.get()] {
    own->kernel->run(own->args, 0, own->args.shape.out_h, own->scratch.data());
  };
  prepared.pattern = pattern;
  prepared.isa = own->kernel->isa;
  prepared.output = own->y.data();
  prepared.contestant.run();
  std::vector<std::uint8_t> expected(static_cast<std::size_t>(outputs));
  kernels::QConvArgs reference = own->args;
  reference.y = expected.data();
  kernels::reference_qconv(reference, own->weights.view(), pattern.format, shape_.extent);
  if (std::memcmp(expected.data(), own->y.data(), expected.size()) != 0) {
    prepared.trouble.push_back(str_cat(own->kernel->name, " differs from the reference"));
  }
  prepared.keep = std::move(own);
  return prepared;
}

std::vector<Prepared> ConvField::peers(const std::vector<OneDnn>& onednn, const Prepared& own_dense) const {
  const Pattern pattern = dense_pattern();
  const std::int64_t taps = shape_.kernel * shape_.kernel;
  Rng rng(seed_, 2);
  const Weights weights = random_weights(rng, pattern, shape_.out_c, taps, shape_.in_c);
  const Scaling scaling = random_scaling(rng, pattern, shape_.out_c, taps * shape_.in_c);
  const std::vector<std::int32_t> bias = fold_zero_point(scaling.bias, weights.values, kZeroPoint);
  const OneDnnConv conv{shape_.extent,
                        shape_.in_c,
                        shape_.out_c,
                        shape_.kernel,
                        shape_.kernel / 2,
                        x_->data(),
                        weights.values.data(),
                        bias.data(),
                        scaling.multiplier.data(),
                        nullptr,
                        0};
  return convolution_peers(onednn, conv, x_, own_dense);
}

namespace {

struct OwnDepthwise {
  Weights weights;
  Scaling scaling;
  HugeBuffer<std::uint8_t> packed;
  std::shared_ptr<HugeBuffer<std::uint8_t>> x;
  HugeBuffer<std::uint8_t> y;
  kernels::DepthwiseArgs args;
  const kernels::DepthwiseKernel* kernel = nullptr;
};

}  // namespace

DepthwiseField::DepthwiseField(const DepthwiseShape& shape, std::uint64_t seed)
    : shape_(shape),
      seed_(seed),
      x_(std::make_shared<HugeBuffer<std::uint8_t>>(
          static_cast<std::size_t>(shape.extent * shape.extent * shape.channels))) {
  Rng rng(seed_, 1);
  fill_codes(rng, x_->data(), shape_.extent * shape_.extent * shape_.channels);
}

Prepared DepthwiseField::own(const Pattern& dense, Isa isa) const {
  auto own = std::make_shared<OwnDepthwise>();
  const std::int64_t taps = shape_.kernel * shape_.kernel;
  Rng rng(seed_, 2);
  own->weights = random_weights(rng, dense, shape_.channels, 1, taps);
  own->scaling = random_scaling(rng, dense, shape_.channels, taps);
  const kernels::DepthwiseWeights weights{.channels = shape_.channels,
                                          .kernel_h = shape_.kernel,
                                          .kernel_w = shape_.kernel,
                                          .values = own->weights.values.data(),
                                          .bias = own->scaling.bias.data(),
                                          .multiplier = own->scaling.multiplier.data(),
                                          .x_zero_point = kZeroPoint};
  own->kernel = &kernels::find_depthwise_kernel(isa);
  own->packed = HugeBuffer<std::uint8_t>(own->kernel->packed_bytes(weights));
  own->kernel->pack(weights, own->packed.data());
  own->x = x_;
  const auto outputs = static_cast<std::size_t>(shape_.extent * shape_.extent * shape_.channels);
  own->y = HugeBuffer<std::uint8_t>(outputs);
  kernels::DepthwiseArgs& args = own->args;
  args.in_h = args.in_w = args.out_h = args.out_w = shape_.extent;
  args.channels = shape_.channels;
  args.kernel_h = args.kernel_w = shape_.kernel;
  args.pad_top = args.pad_left = shape_.kernel / 2;
  args.x = x_->data();
  args.y = own->y.data();
  args.packed = own->packed.data();
  args.x_zero_point = kZeroPoint;

  Prepared prepared;
  prepared.contestant.name = own->kernel->name;
  prepared.contestant.run = [own = own.get()] { own->kernel->run(own->args, 0, own->args.out_h); };
  prepared.pattern = dense;
  prepared.isa = own->kernel->isa;
  prepared.output = own->y.data();
  prepared.contestant.run();
  std::vector<std::uint8_t> expected(outputs);
  kernels::DepthwiseArgs reference = args;
  reference.y = expected.data();
  kernels::reference_depthwise(reference, weights, shape_.extent);
  if (std::memcmp(expected.data(), own->y.data(), outputs) != 0) {
    prepared.trouble.push_back(str_cat(own->kernel->name, " differs from the reference"));
  }
  prepared.keep = std::move(own);
  return prepared;
}

std::vector<Prepared> DepthwiseField::peers(const std::vector<OneDnn>& onednn, const Prepared& own_dense) const {
  const Pattern pattern = dense_pattern();
  const std::int64_t taps = shape_.kernel * shape_.kernel;
  Rng rng(seed_, 2);
  const Weights weights = random_weights(rng, pattern, shape_.channels, 1, taps);
  const Scaling scaling = random_scaling(rng, pattern, shape_.channels, taps);
  const std::vector<std::int32_t> bias = fold_zero_point(scaling.bias, weights.values, kZeroPoint);
  const OneDnnConv conv{shape_.extent,
                        shape_.channels,
                        shape_.channels,
                        shape_.kernel,
                        shape_.kernel / 2,
                        x_->data(),
                        weights.values.data(),
                        bias.data(),
                        scaling.multiplier.data(),
                        nullptr,
                        1};
  return convolution_peers(onednn, conv, x_, own_dense);
}

}  // namespace pare::bench
