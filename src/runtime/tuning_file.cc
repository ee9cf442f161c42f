// The file of measurements beside an artifact (docs/runtime.md).
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/runtime/tuning.h"

namespace pare::runtime {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormatName = "pare-tuned";
constexpr int kFormatVersion = 1;
constexpr std::size_t kMaxFileBytes = std::size_t{4} << 20;
constexpr std::size_t kMaxEntries = 64;

std::string to_hex(std::uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

[[noreturn]] void fail(const std::string& problem) {
  throw Error(ErrorCategory::kCorruptData, problem, "measured formats");
}

std::uint64_t from_hex(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size()) fail(str_cat("'", text, "' is no checksum"));
  return value;
}

Json to_json(const Tuning& tuning) {
  Json layers = Json::array();
  for (const TunedLayer& layer : tuning.layers) {
    layers.push_back({{"name", layer.name},
                      {"stored", layer.stored},
                      {"stored_seconds", layer.stored_seconds},
                      {"dense_seconds", layer.dense_seconds},
                      {"speed_up", layer.speed_up}});
  }
  const TuningKey& key = tuning.key;
  return {{"cpu", key.cpu},           {"isa", key.isa},
          {"pare", key.pare_version}, {"artifact", to_hex(key.artifact)},
          {"threads", key.threads},   {"batch", key.max_batch},
          {"rounds", tuning.rounds},  {"layers", std::move(layers)}};
}

// Seconds or a ratio.
double positive(const Json& json, const char* name) {
  const auto value = json.at(name).get<double>();
  if (!(value >= 0.0 && value <= 1e9)) fail(str_cat(name, " = ", value));
  return value;
}

Tuning tuning_from(const Json& json) {
  Tuning tuning;
  tuning.key.cpu = json.at("cpu").get<std::string>();
  tuning.key.isa = json.at("isa").get<std::string>();
  tuning.key.pare_version = json.at("pare").get<std::string>();
  tuning.key.artifact = from_hex(json.at("artifact").get<std::string>());
  tuning.key.threads = json.at("threads").get<std::size_t>();
  tuning.key.max_batch = json.at("batch").get<std::int64_t>();
  tuning.rounds = json.at("rounds").get<std::int64_t>();
  for (const Json& layer : json.at("layers")) {
    tuning.layers.push_back({layer.at("name").get<std::string>(), layer.at("stored").get<std::string>(),
                             positive(layer, "stored_seconds"), positive(layer, "dense_seconds"),
                             positive(layer, "speed_up")});
  }
  return tuning;
}

// All entries. Throws kNotFound, kIo, kCorruptData.
std::vector<Tuning> read_file(const std::filesystem::path& path) {
  const std::string text = read_text_file(path, kMaxFileBytes);
  try {
    const Json json = Json::parse(text);
    if (json.at("format") != kFormatName) fail("it is no file of measured formats");
    if (json.at("format_version") != kFormatVersion) fail("it was written by another version of pare");
    const Json& entries = json.at("entries");
    if (!entries.is_array() || entries.size() > kMaxEntries) fail("too many entries");
    std::vector<Tuning> tunings;
    for (const Json& entry : entries) tunings.push_back(tuning_from(entry));
    return tunings;
  } catch (const Json::exception& error) {
    fail(error.what());
  }
}

// What the first entry was made for, where this session is something else.
std::string difference(const TuningKey& saved, const TuningKey& wanted) {
  if (saved.artifact != wanted.artifact) return "another artifact";
  if (saved.pare_version != wanted.pare_version) return str_cat("pare ", saved.pare_version);
  if (saved.cpu != wanted.cpu) return str_cat("another processor, ", saved.cpu);
  if (saved.isa != wanted.isa) return str_cat("instruction set ", saved.isa);
  return str_cat("batch ", saved.max_batch, " and ", saved.threads, " thread", saved.threads == 1 ? "" : "s");
}

}  // namespace

std::filesystem::path tuning_path(const std::filesystem::path& artifact) {
  std::filesystem::path path = artifact;
  path += ".tuned.json";
  return path;
}

void save_tuning(const std::filesystem::path& artifact, const Tuning& tuning) {
  const std::filesystem::path path = tuning_path(artifact);
  Json entries = Json::array({to_json(tuning)});
  try {
    for (const Tuning& other : read_file(path)) {
      const bool is_current =
          other.key.artifact == tuning.key.artifact && other.key.pare_version == tuning.key.pare_version;
      if (is_current && other.key != tuning.key && entries.size() < kMaxEntries) entries.push_back(to_json(other));
    }
  } catch (const Error& error) {
    // Nothing to keep; what cannot be read may yet be replaced.
    if (error.category() != ErrorCategory::kNotFound && error.category() != ErrorCategory::kCorruptData) throw;
  }
  const Json json = {{"format", kFormatName}, {"format_version", kFormatVersion}, {"entries", std::move(entries)}};
  write_file_atomically(path, json.dump(2) + "\n");
}

SavedTuning find_tuning(const std::filesystem::path& artifact, const TuningKey& key) {
  const std::filesystem::path path = tuning_path(artifact);
  SavedTuning found;
  try {
    std::vector<Tuning> tunings = read_file(path);
    for (Tuning& tuning : tunings) {
      if (tuning.key != key) continue;
      found.note = SessionNote{false, str_cat("formats as measured, ", path.string(), ", ", tuning.rounds, " rounds")};
      found.tuning = std::move(tuning);
      return found;
    }
    const std::string made_for = tunings.empty() ? "nothing" : difference(tunings.front().key, key);
    found.note = SessionNote{false, str_cat(path.string(), " is not used: it was measured for ", made_for,
                                            "; pare-run tune measures for this session")};
  } catch (const Error& error) {
    if (error.category() == ErrorCategory::kNotFound) return found;
    found.note = SessionNote{true, str_cat(path.string(), " is not used: ", error.problem(),
                                           "; delete it, or replace it with pare-run tune")};
  }
  return found;
}

}  // namespace pare::runtime
