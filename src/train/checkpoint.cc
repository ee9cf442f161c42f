#include "pare/train/checkpoint.h"

#include <charconv>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/format/safetensors.h"

namespace pare::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kVersionKey = "pare_checkpoint_version";
constexpr int kVersion = 1;
constexpr const char* kReservedKeys = "pare_checkpoint";
constexpr const char* kReservedNames = "pare.";
constexpr const char* kBlobPrefix = "pare.blob.";
constexpr const char* kFilePrefix = "step-";
constexpr const char* kFileSuffix = ".ckpt";
constexpr std::size_t kKept = 2;

bool starts_with(const std::string& text, std::string_view prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

struct DTypePair {
  torch::ScalarType torch;
  DType pare;
};
constexpr DTypePair kDTypes[] = {{torch::kFloat32, DType::kF32}, {torch::kFloat64, DType::kF64},
                                 {torch::kUInt8, DType::kU8},    {torch::kInt8, DType::kS8},
                                 {torch::kInt32, DType::kS32},   {torch::kInt64, DType::kS64},
                                 {torch::kBool, DType::kBool}};

DType to_dtype(torch::ScalarType type, const std::string& name) {
  for (const DTypePair& pair : kDTypes) {
    if (pair.torch == type) {
      return pair.pare;
    }
  }
  throw Error(ErrorCategory::kUnsupported, str_cat("a checkpoint cannot hold ", type), name);
}

torch::ScalarType to_scalar_type(DType type) {
  for (const DTypePair& pair : kDTypes) {
    if (pair.pare == type) {
      return pair.torch;
    }
  }
  PARE_CHECK(false);
}

// Step of "step-000000123.ckpt", or -1.
std::int64_t step_of(const std::string& name) {
  const std::string_view prefix = kFilePrefix;
  const std::string_view suffix = kFileSuffix;
  if (!starts_with(name, prefix) || name.size() <= prefix.size() + suffix.size() ||
      name.compare(name.size() - suffix.size(), suffix.size(), suffix) != 0) {
    return -1;
  }
  std::int64_t step = -1;
  const char* const end = name.data() + name.size() - suffix.size();
  const auto [stop, fault] = std::from_chars(name.data() + prefix.size(), end, step);
  return fault == std::errc() && stop == end ? step : -1;
}

void remove_file(const fs::path& path) {
  std::error_code fault;
  fs::remove(path, fault);
  if (fault) {
    throw Error(ErrorCategory::kIo, str_cat("cannot be removed: ", fault.message()), path.string());
  }
}

}  // namespace

void write_checkpoint(const fs::path& path, const Checkpoint& checkpoint) {
  std::map<std::string, std::string> metadata = {{kVersionKey, str_cat(kVersion)}};
  for (const auto& [key, text] : checkpoint.metadata) {
    PARE_CHECK(!starts_with(key, kReservedKeys));
    metadata[key] = text;
  }
  std::vector<torch::Tensor> plain;  // keeps the bytes alive that views point to
  std::vector<format::TensorView> views;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    PARE_CHECK(tensor.defined() && !starts_with(name, kReservedNames));
    plain.push_back(tensor.detach().to(torch::kCPU).contiguous());
    const auto* const data = static_cast<const std::byte*>(plain.back().data_ptr());
    views.push_back({name, to_dtype(tensor.scalar_type(), name), tensor.sizes().vec(), {data, plain.back().nbytes()}});
  }
  for (const auto& [name, bytes] : checkpoint.blobs) {
    views.push_back({kBlobPrefix + name,
                     DType::kU8,
                     {static_cast<std::int64_t>(bytes.size())},
                     std::as_bytes(std::span(bytes.data(), bytes.size()))});
  }
  format::write_safetensors(path, metadata, views);
}

Checkpoint read_checkpoint(const fs::path& path) {
  const format::SafetensorsFile file(path);
  const auto version = file.metadata().find(kVersionKey);
  if (version == file.metadata().end()) {
    throw Error(ErrorCategory::kCorruptData, "a safetensors file, but no checkpoint of pare", path.string());
  }
  if (version->second != str_cat(kVersion)) {
    throw Error(ErrorCategory::kUnsupported, str_cat("checkpoint of version ", version->second), path.string(),
                str_cat("this pare reads version ", kVersion));
  }
  Checkpoint checkpoint;
  checkpoint.metadata = file.metadata();
  checkpoint.metadata.erase(kVersionKey);
  for (const format::TensorView& view : file.tensors()) {
    if (starts_with(view.name, kBlobPrefix)) {
      checkpoint.blobs[view.name.substr(std::strlen(kBlobPrefix))] =
          std::string(reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size());
      continue;
    }
    torch::Tensor tensor = torch::empty(view.shape, to_scalar_type(view.dtype));
    PARE_CHECK(tensor.nbytes() == view.bytes.size());
    if (!view.bytes.empty()) {
      std::memcpy(tensor.data_ptr(), view.bytes.data(), view.bytes.size());
    }
    checkpoint.tensors[view.name] = tensor;
  }
  return checkpoint;
}

std::map<std::int64_t, fs::path> CheckpointFolder::files() const {
  std::map<std::int64_t, fs::path> found;
  std::error_code fault;
  if (!fs::exists(folder_, fault) && !fault) {
    return found;
  }
  fs::directory_iterator entries(folder_, fault);
  for (; !fault && entries != fs::directory_iterator(); entries.increment(fault)) {
    if (const std::int64_t step = step_of(entries->path().filename().string()); step >= 0) {
      found[step] = entries->path();
    }
  }
  if (fault) {
    throw Error(ErrorCategory::kIo, str_cat("cannot be listed: ", fault.message()), folder_.string());
  }
  return found;
}

void CheckpointFolder::save(std::int64_t step, const Checkpoint& checkpoint) {
  PARE_CHECK(step >= 0);
  make_directories(folder_);
  char name[40];
  std::snprintf(name, sizeof(name), "%s%09lld%s", kFilePrefix, static_cast<long long>(step), kFileSuffix);
  write_checkpoint(folder_ / name, checkpoint);
  std::map<std::int64_t, fs::path> all = files();
  std::size_t kept = 0;
  for (auto file = all.rbegin(); file != all.rend(); ++file) {
    if (file->first > step || ++kept > kKept) {
      remove_file(file->second);
    }
  }
  std::error_code ignored;
  std::vector<fs::path> abandoned;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_, ignored)) {
    const std::string file = entry.path().filename().string();
    const std::string_view suffix = kTemporarySuffix;
    if (starts_with(file, kFilePrefix) && file.size() > suffix.size() &&
        std::string_view(file).substr(file.size() - suffix.size()) == suffix) {
      abandoned.push_back(entry.path());
    }
  }
  for (const fs::path& path : abandoned) {
    remove_file(path);
  }
}

std::optional<Checkpoint> CheckpointFolder::load_newest(const std::function<void(const std::string&)>& warn) const {
  const std::map<std::int64_t, fs::path> all = files();
  std::string first_fault;
  for (auto file = all.rbegin(); file != all.rend(); ++file) {
    try {
      return read_checkpoint(file->second);
    } catch (const Error& error) {
      if (error.category() != ErrorCategory::kCorruptData && error.category() != ErrorCategory::kIo) {
        throw;
      }
      const std::string warning = str_cat("checkpoint passed over: ", error.what());
      if (warn) {
        warn(warning);
      } else {
        std::cerr << "pare: " << warning << '\n';
      }
      first_fault = first_fault.empty() ? error.what() : first_fault;
    }
  }
  if (!all.empty()) {
    throw Error(ErrorCategory::kCorruptData, str_cat("every checkpoint is damaged; the newest: ", first_fault),
                folder_.string(), "start the run anew");
  }
  return std::nullopt;
}

void CheckpointFolder::clear() {
  for (const auto& entry : files()) {
    remove_file(entry.second);
  }
}

}  // namespace pare::train
