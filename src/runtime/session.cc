#include "pare/runtime/session.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/base/threads.h"
#include "pare/graph/artifact.h"
#include "pare/runtime/plan.h"

namespace pare::runtime {

namespace {

constexpr std::int64_t kMaxBatchLimit = std::int64_t{1} << 16;

using Clock = std::chrono::steady_clock;

// make_plan, with the file's name in its errors.
Plan make_plan_of(const std::filesystem::path& path, const graph::Artifact& artifact, Isa isa, std::int64_t max_batch) {
  try {
    return make_plan(artifact, isa, max_batch);
  } catch (const Error& error) {
    throw Error(error.category(), error.problem(), str_cat(path.string(), ", ", error.where()), error.remedy());
  }
}

}  // namespace

struct Session::Impl {
  Plan plan;
  ThreadPool pool;
  AlignedBytes arena;
  AlignedBytes scratch;
  std::int64_t max_batch;
  std::vector<std::string> class_names;
  std::vector<PlannedLayer> layers;
  std::function<void(const Tap&)> tap;
  std::vector<std::byte> tap_bytes;  // a slice in NCHW order
  bool profiling = false;
  std::vector<LayerTime> times;

  Impl(Plan made_plan, const SessionOptions& options, std::vector<std::string> names)
      : plan(std::move(made_plan)),
        pool(options.threads),
        arena(plan.arena_bytes),
        scratch(plan.scratch_bytes * pool.threads()),
        max_batch(options.max_batch),
        class_names(std::move(names)) {
    for (const Step& step : plan.steps) {
      layers.push_back(step.layer);
      times.push_back({step.layer.name, 0, 0.0});
    }
  }

  void check_sizes(std::size_t image_items, std::int64_t count, std::size_t logit_items) const {
    const auto fits = [count](std::size_t items, std::int64_t each) {
      return count <= std::numeric_limits<std::int64_t>::max() / each &&
             items == static_cast<std::size_t>(count * each);
    };
    if (count < 0) {
      throw Error(ErrorCategory::kInvalidArgument, str_cat(count, " images"), "Session::run");
    }
    if (!fits(image_items, plan.input_elems)) {
      throw Error(ErrorCategory::kInvalidArgument,
                  str_cat(image_items, " input numbers for ", count, " images of ", to_string(plan.input_shape)),
                  "Session::run", str_cat("give count * ", plan.input_elems));
    }
    if (!fits(logit_items, plan.output_elems)) {
      throw Error(
          ErrorCategory::kInvalidArgument,
          str_cat("room for ", logit_items, " logits, but ", count, " images have ", plan.output_elems, " each"),
          "Session::run", str_cat("give count * ", plan.output_elems));
    }
  }

  void run(const std::uint8_t* raw, const float* real, std::int64_t count, float* logits) {
    for (std::int64_t begin = 0; begin < count; begin += max_batch) {
      const std::int64_t batch = std::min(max_batch, count - begin);
      const RunContext context{pool,
                               arena.data(),
                               batch,
                               raw == nullptr ? nullptr : raw + begin * plan.input_elems,
                               real == nullptr ? nullptr : real + begin * plan.input_elems,
                               scratch.data(),
                               plan.scratch_bytes};
      for (std::size_t index = 0; index < plan.steps.size(); ++index) {
        run_step(context, index);
      }
      std::memcpy(logits + begin * plan.output_elems, arena.data() + plan.steps.back().output.offset,
                  static_cast<std::size_t>(batch * plan.output_elems) * sizeof(float));
    }
  }

  void run_step(const RunContext& context, std::size_t index) {
    const Step& step = plan.steps[index];
    if (profiling) {
      const Clock::time_point start = Clock::now();
      step.op->run(context);
      times[index].seconds += std::chrono::duration<double>(Clock::now() - start).count();
      ++times[index].calls;
    } else {
      step.op->run(context);
    }
    if (tap) give_tap(context, step.output);
  }

  // Writes tap_bytes.
  void to_planes(const std::byte* data, const PlannedValue& value, std::int64_t batch) {
    const auto size = static_cast<std::int64_t>(size_bytes(value.dtype));
    const std::int64_t channels = value.shape[0];
    const std::int64_t pixels = value.shape[1] * value.shape[2];
    for (std::int64_t i = 0; i < batch * value.elems; ++i) {
      const std::int64_t image = i / value.elems;
      const std::int64_t pixel = i % value.elems / channels;
      const std::int64_t planar = (image * channels + i % channels) * pixels + pixel;
      std::memcpy(tap_bytes.data() + planar * size, data + i * size, static_cast<std::size_t>(size));
    }
  }

  void give_tap(const RunContext& context, const PlannedValue& value) {
    Shape shape = value.shape;
    shape.insert(shape.begin(), context.batch);
    const auto bytes = static_cast<std::size_t>(context.batch * value.elems) * size_bytes(value.dtype);
    const std::byte* data = context.arena + value.offset;
    if (value.channels_last) {
      tap_bytes.resize(bytes);
      to_planes(data, value, context.batch);
      data = tap_bytes.data();
    }
    tap(Tap{value.name, value.dtype, std::move(shape), {data, bytes}});
  }
};

Session Session::load(const std::filesystem::path& path, const SessionOptions& options) {
  if (options.max_batch < 1 || options.max_batch > kMaxBatchLimit) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("max_batch = ", options.max_batch), "SessionOptions",
                str_cat("it must lie in 1 to ", kMaxBatchLimit));
  }
  const Isa isa = chosen_isa();
  graph::Artifact artifact = graph::read_artifact(path);
  try {
    Plan plan = make_plan_of(path, artifact, isa, options.max_batch);
    return Session(std::make_unique<Impl>(std::move(plan), options, std::move(artifact.class_names)));
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("not enough memory for the network with buffers for ", options.max_batch, " images"),
                path.string(), "lower max_batch");
  }
}

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

const Shape& Session::input_shape() const { return impl_->plan.input_shape; }
std::int64_t Session::input_elems() const { return impl_->plan.input_elems; }
bool Session::takes_images() const { return impl_->plan.takes_images; }
const Shape& Session::output_shape() const { return impl_->plan.output_shape; }
std::int64_t Session::classes() const { return impl_->plan.output_elems; }
const std::vector<std::string>& Session::class_names() const { return impl_->class_names; }
const std::vector<PlannedLayer>& Session::layers() const { return impl_->layers; }
std::size_t Session::arena_bytes() const { return impl_->arena.size(); }
std::size_t Session::threads() const { return impl_->pool.threads(); }

void Session::run(std::span<const std::uint8_t> images, std::int64_t count, std::span<float> logits) {
  impl_->check_sizes(images.size(), count, logits.size());
  if (!impl_->plan.takes_images) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("raw pixels for a network that takes float32 ", to_string(impl_->plan.input_shape)),
                "Session::run", "give it floats");
  }
  impl_->run(images.data(), nullptr, count, logits.data());
}

void Session::run(std::span<const float> images, std::int64_t count, std::span<float> logits) {
  impl_->check_sizes(images.size(), count, logits.size());
  impl_->run(nullptr, images.data(), count, logits.data());
}

void Session::set_tap(std::function<void(const Tap&)> tap) { impl_->tap = std::move(tap); }

void Session::enable_profile(bool enabled) {
  impl_->profiling = enabled;
  if (enabled) {
    for (LayerTime& time : impl_->times) time = {time.name, 0, 0.0};
  }
}

std::vector<LayerTime> Session::profile() const { return impl_->times; }

}  // namespace pare::runtime
