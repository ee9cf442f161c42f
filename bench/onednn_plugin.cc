#include "bench/onednn_plugin.h"

#include <cstdio>
#include <exception>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

using dnnl::memory;
using Type = memory::data_type;
using Tag = memory::format_tag;
constexpr bool kVersion3 = DNNL_VERSION_MAJOR >= 3;

struct Primitive {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::primitive primitive;
  std::unordered_map<int, memory> arguments;
  std::string implementation;
  std::vector<float> scaled_bias;
  std::vector<std::int32_t> bias;
  std::vector<float> multiplier;
};

memory::desc bias_desc(memory::dims dims) {
  return {dims, kVersion3 ? Type::f32 : Type::s32, dims.size() == 1 ? Tag::a : Tag::ab};
}

dnnl::primitive_attr scaling(const Primitive& made, int channel_mask) {
  dnnl::primitive_attr attributes;
#if DNNL_VERSION_MAJOR >= 3
  static_cast<void>(made);
  attributes.set_scales_mask(DNNL_ARG_WEIGHTS, channel_mask);
#else
  static_cast<void>(channel_mask);
  attributes.set_output_scales(2, made.multiplier);  // the output's second dimension
#endif
  return attributes;
}

// `weights` are reordered into the layout that the primitive chose.
template <typename Description>
void finish(Primitive& made, const Description& description, const memory::desc& plain_weights,
            const std::int8_t* weights, const std::uint8_t* source, std::uint8_t* destination) {
  memory given(plain_weights, made.engine, const_cast<std::int8_t*>(weights));
  memory packed(description.weights_desc(), made.engine);
  dnnl::reorder(given, packed).execute(made.stream, given, packed);
  made.stream.wait();
  void* bias = kVersion3 ? static_cast<void*>(made.scaled_bias.data()) : static_cast<void*>(made.bias.data());
  made.arguments = {{DNNL_ARG_SRC, memory(description.src_desc(), made.engine, const_cast<std::uint8_t*>(source))},
                    {DNNL_ARG_WEIGHTS, packed},
                    {DNNL_ARG_BIAS, memory(description.bias_desc(), made.engine, bias)},
                    {DNNL_ARG_DST, memory(description.dst_desc(), made.engine, destination)}};
#if DNNL_VERSION_MAJOR >= 3
  const memory::desc scales({static_cast<memory::dim>(made.multiplier.size())}, Type::f32, Tag::a);
  made.arguments[DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS] = memory(scales, made.engine, made.multiplier.data());
#endif
  made.implementation = description.impl_info_str();
}

void take_numbers(Primitive& made, const std::int32_t* bias, const float* multiplier, std::int64_t n) {
  made.bias.assign(bias, bias + n);
  made.multiplier.assign(multiplier, multiplier + n);
  for (std::int64_t j = 0; j < n; ++j) made.scaled_bias.push_back(static_cast<float>(bias[j]) * multiplier[j]);
}

void make(Primitive& made, const OneDnnGemm& gemm) {
  take_numbers(made, gemm.bias, gemm.multiplier, gemm.n);
  const memory::desc a({gemm.m, gemm.k}, Type::u8, Tag::ab);
  const memory::desc c({gemm.m, gemm.n}, Type::u8, Tag::ab);
  if (gemm.use_inner_product != 0) {
    using Product = dnnl::inner_product_forward;
    const memory::desc weights({gemm.n, gemm.k}, Type::s8, Tag::any);
#if DNNL_VERSION_MAJOR >= 3
    const Product::primitive_desc description(made.engine, dnnl::prop_kind::forward_inference, a, weights,
                                              bias_desc({gemm.n}), c, scaling(made, 1));
#else
    const Product::primitive_desc description({dnnl::prop_kind::forward_inference, a, weights, bias_desc({gemm.n}), c},
                                              scaling(made, 1), made.engine);
#endif
    made.primitive = Product(description);
    finish(made, description, {{gemm.n, gemm.k}, Type::s8, Tag::ab}, gemm.weights, gemm.a, gemm.c);
    return;
  }
  const memory::desc weights({gemm.k, gemm.n}, Type::s8, Tag::any);
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::matmul::primitive_desc description(made.engine, a, weights, bias_desc({1, gemm.n}), c, scaling(made, 2));
#else
  const dnnl::matmul::primitive_desc description({a, weights, bias_desc({1, gemm.n}), c}, scaling(made, 2),
                                                 made.engine);
#endif
  made.primitive = dnnl::matmul(description);
  finish(made, description, {{gemm.k, gemm.n}, Type::s8, Tag::ba}, gemm.weights, gemm.a, gemm.c);
}

void make(Primitive& made, const OneDnnConv& conv) {
  using Convolution = dnnl::convolution_forward;
  take_numbers(made, conv.bias, conv.multiplier, conv.out_c);
  const memory::desc x({1, conv.in_c, conv.extent, conv.extent}, Type::u8, Tag::nhwc);
  const memory::desc y({1, conv.out_c, conv.extent, conv.extent}, Type::u8, Tag::nhwc);
  const bool depthwise = conv.is_depthwise != 0;
  const memory::dims weight_dims = depthwise ? memory::dims{conv.out_c, 1, 1, conv.kernel, conv.kernel}
                                             : memory::dims{conv.out_c, conv.in_c, conv.kernel, conv.kernel};
  const int channel_mask = depthwise ? 3 : 1;
  const memory::desc weights(weight_dims, Type::s8, Tag::any);
  const memory::dims strides{1, 1};
  const memory::dims padding{conv.padding, conv.padding};
#if DNNL_VERSION_MAJOR >= 3
  const Convolution::primitive_desc description(
      made.engine, dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, x, weights,
      bias_desc({conv.out_c}), y, strides, padding, padding, scaling(made, channel_mask));
#else
  const Convolution::primitive_desc description(
      {dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, x, weights, bias_desc({conv.out_c}), y,
       strides, padding, padding},
      scaling(made, channel_mask), made.engine);
#endif
  made.primitive = Convolution(description);
  finish(made, description, {weight_dims, Type::s8, depthwise ? Tag::goihw : Tag::ohwi}, conv.weights, conv.x, conv.y);
}

template <typename Problem>
void* make_or_say_why(const Problem& problem, char* why, std::int64_t why_bytes) {
  try {
    auto made = std::make_unique<Primitive>();
    make(*made, problem);
    return made.release();
  } catch (const std::exception& error) {
    std::snprintf(why, static_cast<std::size_t>(why_bytes), "%s", error.what());
    return nullptr;
  }
}

#define PARE_TEXT(x) #x
#define PARE_VERSION_TEXT(major, minor, patch) PARE_TEXT(major) "." PARE_TEXT(minor) "." PARE_TEXT(patch)

void* make_gemm(const OneDnnGemm& gemm, char* why, std::int64_t why_bytes) {
  return make_or_say_why(gemm, why, why_bytes);
}
void* make_conv(const OneDnnConv& conv, char* why, std::int64_t why_bytes) {
  return make_or_say_why(conv, why, why_bytes);
}
bool limit_to_avx2() { return dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx2) == dnnl::status::success; }
const char* implementation(const void* primitive) {
  return static_cast<const Primitive*>(primitive)->implementation.c_str();
}
void run(void* primitive) {
  auto* made = static_cast<Primitive*>(primitive);
  made->primitive.execute(made->stream, made->arguments);
  made->stream.wait();
}
void free_primitive(void* primitive) { delete static_cast<Primitive*>(primitive); }

}  // namespace

extern "C" __attribute__((visibility("default"))) const OneDnnPlugin pare_onednn;
const OneDnnPlugin pare_onednn = {
    PARE_VERSION_TEXT(DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, DNNL_VERSION_PATCH),
    limit_to_avx2,
    make_gemm,
    make_conv,
    implementation,
    run,
    free_primitive,
};
