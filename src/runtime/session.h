// Session: a loaded artifact, planned once, run many times. LibTorch-free.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "pare/base/cpu.h"
#include "pare/base/threads.h"
#include "pare/format/dtype.h"

namespace pare::runtime {

// Where the choice of a layer's form comes from, stored or dense; it never changes a result.
enum class FormatSource {
  kSaved,    // measurements beside the artifact (runtime/tuning.h) if they were made for such a session, else the table
  kMeasure,  // measured while loading, which takes seconds
  kTable,    // the table of costs alone (runtime/format_choice.h)
};

struct SessionOptions {
  std::size_t threads = 0;      // 0: one per core that this process may run on
  std::int64_t max_batch = 64;  // buffers are planned for this many images; larger batches run in slices of it
  FormatSource formats = FormatSource::kSaved;
  std::map<std::string, bool> as_stored = {};  // by layer, before any other choice: as stored (true) or dense (false)
  // Instead of `threads`: shared with sessions that run at other times.
  std::shared_ptr<ThreadPool> pool = nullptr;
};

// Something to know about a session as a whole.
struct SessionNote {
  bool is_warning = false;
  std::string text;
};

// One planned operator, for inspect and bench.
struct PlannedLayer {
  std::string name;  // node name
  std::string op_type;
  std::string kernel;                 // name of the chosen kernel, "qgemm_u8_s8_2x4_scalar"
  std::string pattern;                // "2:4", "dense", or "" where there is no weight
  std::string note;                   // why this kernel
  Shape output_shape;                 // without batch
  std::int64_t macs = 0;              // dense multiply-adds an image
  std::int64_t weight_bytes = 0;      // packed
  std::int64_t activation_bytes = 0;  // read and written, an image
};

// What a node wrote: the codes (u8) or float32 numbers of a whole slice, an image in NCHW order.
struct Tap {
  const std::string& value;  // name of the output value
  DType dtype;
  Shape shape;  // with the slice's batch
  std::span<const std::byte> bytes;
};

struct LayerTime {
  std::string name;
  std::int64_t calls = 0;
  double seconds = 0.0;
};

// Not thread-safe: one run at a time per session. Movable.
class Session {
 public:
  // Maps the file, validates all of it, plans, packs. A file of measurements that cannot be used is a note. Throws what
  // read_artifact throws, kUnsupported for an operator that no kernel can run, kInvalidArgument for impossible options.
  [[nodiscard]] static Session load(const std::filesystem::path& path, const SessionOptions& options = {});

  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  // False: the network takes float32 of another shape, [length, features] for example. What is called an image below is
  // then one of those, only the second run() takes it, and the "logits" are the output, whatever it means.
  [[nodiscard]] bool takes_images() const;
  [[nodiscard]] const Shape& input_shape() const;  // [channels, height, width] of one image
  [[nodiscard]] std::int64_t input_elems() const;
  [[nodiscard]] const Shape& output_shape() const;  // [classes], or [length, features]
  [[nodiscard]] std::int64_t classes() const;       // numbers of the output
  [[nodiscard]] const std::vector<std::string>& class_names() const;
  [[nodiscard]] const std::vector<PlannedLayer>& layers() const;
  [[nodiscard]] const std::vector<SessionNote>& notes() const;
  [[nodiscard]] std::size_t arena_bytes() const;
  [[nodiscard]] std::size_t threads() const;
  [[nodiscard]] Isa isa() const;  // that the kernels were chosen for

  // Raw pixels, NCHW, `count` images; normalization is the artifact's. `logits`: count * classes() floats, owned by the
  // caller. Throws kInvalidArgument if the sizes disagree or the network takes no images. No allocation after the first
  // call.
  void run(std::span<const std::uint8_t> images, std::int64_t count, std::span<float> logits);
  // The same for images that are normalized already.
  void run(std::span<const float> images, std::int64_t count, std::span<float> logits);

  // Called after every node of every slice; pass {} to stop. Taps cost a copy for values that live in NHWC inside.
  void set_tap(std::function<void(const Tap&)> tap);

  // Wall time by layer since the last reset; off until enabled.
  void enable_profile(bool enabled);
  [[nodiscard]] std::vector<LayerTime> profile() const;

 private:
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace pare::runtime
