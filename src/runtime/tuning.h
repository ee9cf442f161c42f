// Measured instead of predicted: which form of each layer's weights is faster here, stored or dense, and a file beside
// the artifact that keeps the answer. Results are the same bits either way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "pare/runtime/session.h"

namespace pare::runtime {

// A measurement counts for sessions that agree in all of this.
struct TuningKey {
  std::string cpu;             // cpu_name()
  std::string isa;             // to_string(Isa)
  std::string pare_version;    // kernels change with it
  std::uint64_t artifact = 0;  // the file's own checksum
  std::size_t threads = 0;
  std::int64_t max_batch = 0;

  friend bool operator==(const TuningKey&, const TuningKey&) = default;
};

// A layer whose stored form makes use of its zeros. Layers that have no choice are left out.
struct TunedLayer {
  std::string name;             // node
  std::string stored;           // pattern, "2:4"
  double stored_seconds = 0.0;  // of a batch, median
  double dense_seconds = 0.0;
  double speed_up = 1.0;  // of stored over dense, median of the rounds' ratios

  [[nodiscard]] bool runs_as_stored() const { return speed_up >= 1.0; }
};

struct Tuning {
  TuningKey key;
  std::int64_t rounds = 0;
  std::vector<TunedLayer> layers;
};

struct TuneOptions {
  SessionOptions session = {};  // threads and max_batch: what is to be tuned for
  std::int64_t rounds = 30;     // of both forms in turn, after one that is not timed
  std::uint64_t seed = 0;       // of the random images
};

// Precondition: the artifact was read. Its last bytes are its checksum.
[[nodiscard]] TuningKey tuning_key(const std::filesystem::path& artifact, const SessionOptions& options);

// Runs every layer in both forms in turn, all layers of one form in a run, as in use. Throws what Session::load throws.
[[nodiscard]] Tuning tune(const std::filesystem::path& artifact, const TuneOptions& options);

// "model.pare.tuned.json" for "model.pare".
[[nodiscard]] std::filesystem::path tuning_path(const std::filesystem::path& artifact);

// Adds the measurement to the file beside the artifact, in place of an earlier one with the same key; those of another
// artifact or version of pare go, and so does a damaged file. Atomic. Throws kIo.
void save_tuning(const std::filesystem::path& artifact, const Tuning& tuning);

// What the file beside the artifact has for this key. A missing file gives neither; one that cannot be used, or was
// made for something else, gives a note that says so.
struct SavedTuning {
  std::optional<Tuning> tuning;
  std::optional<SessionNote> note;
};
[[nodiscard]] SavedTuning find_tuning(const std::filesystem::path& artifact, const TuningKey& key);

}  // namespace pare::runtime
