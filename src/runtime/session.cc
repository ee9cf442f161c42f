#include "pare/runtime/session.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <optional>
#include <system_error>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/base/threads.h"
#include "pare/graph/artifact.h"
#include "pare/runtime/plan.h"
#include "pare/runtime/tuning.h"

namespace pare::runtime {

namespace {

constexpr std::int64_t kMaxBatchLimit = std::int64_t{1} << 16;

using Clock = std::chrono::steady_clock;

// make_plan, with the file's name in its errors.
Plan make_plan_of(const std::filesystem::path& path, const graph::Artifact& artifact, Isa isa, std::int64_t max_batch,
                  const FormatOverrides& overrides) {
  try {
    return make_plan(artifact, isa, max_batch, overrides);
  } catch (const Error& error) {
    throw Error(error.category(), error.problem(), str_cat(path.string(), ", ", error.where()), error.remedy());
  }
}

std::string measured_note(const TunedLayer& layer) {
  const std::string ratio =
      str_cat("measured, ", layer.stored, " is ", static_cast<double>(std::llround(layer.speed_up * 100.0)) / 100.0,
              " times as fast as dense");
  return layer.runs_as_stored() ? ratio : str_cat("stored ", layer.stored, ", run dense: ", ratio);
}

// The choices that are not left to the table, and what is to be said of them.
FormatOverrides choose_overrides(const std::filesystem::path& path, const graph::Graph& graph,
                                 const SessionOptions& options, std::vector<SessionNote>& notes) {
  std::optional<Tuning> tuning;
  if (options.formats == FormatSource::kMeasure) {
    tuning = tune(path, {.session = options});
  } else if (std::error_code ignored;
             options.formats == FormatSource::kSaved && std::filesystem::exists(tuning_path(path), ignored)) {
    SavedTuning saved = find_tuning(path, tuning_key(path, options));
    if (saved.note) notes.push_back(std::move(*saved.note));
    tuning = std::move(saved.tuning);
  }
  FormatOverrides overrides;
  if (tuning) {
    for (const TunedLayer& layer : tuning->layers) {
      overrides[layer.name] = {layer.runs_as_stored(), measured_note(layer)};
    }
  }
  for (const auto& [name, as_stored] : options.as_stored) {
    const bool is_known = std::any_of(graph.nodes.begin(), graph.nodes.end(),
                                      [&name = name](const graph::Node& node) { return node.name == name; });
    if (!is_known) {
      throw Error(ErrorCategory::kInvalidArgument, str_cat("there is no layer '", name, "'"),
                  "SessionOptions::as_stored");
    }
    overrides[name] = {as_stored, as_stored ? "run as stored, as asked" : "run dense, as asked"};
  }
  return overrides;
}

}  // namespace

struct Session::Impl {
  Plan plan;
  std::shared_ptr<ThreadPool> shared_pool;
  ThreadPool& pool;
  AlignedBytes arena;
  AlignedBytes scratch;
  std::int64_t max_batch;
  std::vector<std::string> class_names;
  std::vector<PlannedLayer> layers;
  std::vector<SessionNote> notes;
  std::function<void(const Tap&)> tap;
  std::vector<std::byte> tap_bytes;  // a slice in NCHW order
  bool profiling = false;
  std::vector<LayerTime> times;

  Impl(Plan made_plan, const SessionOptions& options, std::vector<std::string> names)
      : plan(std::move(made_plan)),
        shared_pool(options.pool != nullptr ? options.pool : std::make_shared<ThreadPool>(options.threads)),
        pool(*shared_pool),
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
    std::vector<SessionNote> notes;
    const FormatOverrides overrides = choose_overrides(path, artifact.graph, options, notes);
    Plan plan = make_plan_of(path, artifact, isa, options.max_batch, overrides);
    auto impl = std::make_unique<Impl>(std::move(plan), options, std::move(artifact.class_names));
    impl->notes = std::move(notes);
    return Session(std::move(impl));
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
const std::vector<SessionNote>& Session::notes() const { return impl_->notes; }
std::size_t Session::arena_bytes() const { return impl_->arena.size(); }
std::size_t Session::threads() const { return impl_->pool.threads(); }
Isa Session::isa() const { return impl_->plan.isa; }

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
