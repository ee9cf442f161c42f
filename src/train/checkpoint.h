// Checkpoints: safetensors files, written atomically, the last two kept.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace pare::train {

struct Checkpoint {
  std::map<std::string, torch::Tensor> tensors;  // Model::state() and whatever else the run needs; read back on the CPU
  std::map<std::string, std::string> metadata;   // texts: progress, metrics, sparsifier, recipe hash
  std::map<std::string, std::string> blobs;      // bytes: optimizer, LibTorch's generator
};

// Any device, any strides; float32, float64, uint8, int8, int32, int64, bool. Names must not start with "pare.",
// metadata keys not with "pare_checkpoint". Throws kIo; the previous file is untouched then.
void write_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint);
// Throws kNotFound, kIo, kCorruptData, kUnsupported (written by a newer version).
[[nodiscard]] Checkpoint read_checkpoint(const std::filesystem::path& path);

// A folder of "step-000000123.ckpt" files.
class CheckpointFolder {
 public:
  explicit CheckpointFolder(std::filesystem::path folder) : folder_(std::move(folder)) {}
  // Writes, then removes all but the newest two. Checkpoints of later steps belong to a future that was abandoned (one
  // went back behind them) and go as well, as do files that a killed process left half-written. Throws kIo.
  void save(std::int64_t step, const Checkpoint& checkpoint);
  // The newest that reads back whole; a damaged one is passed over and reported through `warn` (by default a line on
  // stderr), and kCorruptData is thrown if only damaged ones are there. nullopt if there is none.
  [[nodiscard]] std::optional<Checkpoint> load_newest(const std::function<void(const std::string&)>& warn = {}) const;
  // Removes all checkpoints: a run that starts anew must not resume from another's. Throws kIo.
  void clear();

 private:
  // By step, ascending.
  [[nodiscard]] std::map<std::int64_t, std::filesystem::path> files() const;

  std::filesystem::path folder_;
};

}  // namespace pare::train
