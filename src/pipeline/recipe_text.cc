#include "pare/pipeline/recipe_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "pare/base/strings.h"
#include "pare/pipeline/recipe_scheme.h"
#include "pare/pipeline/recipe_stage.h"

namespace pare::pipeline {
namespace {

std::string number_text(double value) {
  std::array<char, 40> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return std::string(buffer.data(), result.ptr);
}

// A float that came from a recipe's decimal number is written back as that number.
std::string number_text(float value) {
  std::array<char, 40> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return std::string(buffer.data(), result.ptr);
}

std::string text(std::string_view value) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out = "\"";
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7F) {
      out += "\\u00";
      out += kHex[byte >> 4U];
      out += kHex[byte & 15U];
    } else {
      out += c;
    }
  }
  out += '"';
  return out;
}

template <typename T>
std::string numbers_text(const std::vector<T>& values) {
  std::vector<std::string> parts;
  for (const T value : values) {
    parts.push_back(number_text(value));
  }
  return str_cat("[", join(parts, ", "), "]");
}

std::string texts_text(const std::vector<std::string>& values) {
  std::vector<std::string> parts;
  for (const std::string& value : values) {
    parts.push_back(text(value));
  }
  return str_cat("[", join(parts, ", "), "]");
}

class Lines {
 public:
  void table(const std::string& header) { out_ += str_cat("\n", header, "\n"); }
  void line(const std::string& key, const std::string& value) { out_ += str_cat(key, " = ", value, "\n"); }
  void line(const std::string& key, double value) { line(key, number_text(value)); }
  void line(const std::string& key, std::int64_t value) { line(key, std::to_string(value)); }
  void line(const std::string& key, bool value) { line(key, std::string(value ? "true" : "false")); }
  [[nodiscard]] const std::string& str() const { return out_; }

 private:
  std::string out_;
};

void add_files(Lines& lines, const std::string& key, const FilesRecipe& files) {
  lines.table(str_cat("[data.", key, "]"));
  lines.line("format", text(files.format));
  lines.line("images", text(files.images.string()));
  lines.line("labels", text(files.labels.string()));
}

void add_data(Lines& lines, const DataRecipe& data) {
  lines.table("[data]");
  if (!data.set.empty()) {
    lines.line("set", text(data.set));
  }
  if (!data.class_names.empty()) {
    lines.line("class_names", texts_text(data.class_names));
  }
  lines.line("batch", data.batch);
  lines.line("limit_train", data.limit_train);
  lines.line("limit_test", data.limit_test);
  lines.line("normalize.mean", numbers_text(data.normalize.mean));
  lines.line("normalize.std", numbers_text(data.normalize.std));
  lines.line("augment.flip", data.flip);
  if (data.train) {
    add_files(lines, "train", *data.train);
  }
  if (data.test) {
    add_files(lines, "test", *data.test);
  }
}

void add_block(Lines& lines, const std::string& prefix, const sparsity::MaskConfig& config) {
  lines.line(prefix + "sparsity_level", config.sparsity_level);
  lines.line(prefix + "sparse_block_shape",
             str_cat("[", config.sparse_block_shape[0], ", ", config.sparse_block_shape[1], "]"));
  lines.line(prefix + "zeros_per_block", config.zeros_per_block);
  lines.line(prefix + "whole_columns", config.rule == sparsity::BlockRule::kWholeColumns);
}

// "64:2:4" where the fields are those of a pattern and nothing else is said, or "".
std::string whole_pattern(const sparsity::SparseLayerConfig& layer) {
  if (!layer.sparsity_level || !layer.sparse_block_shape || !layer.zeros_per_block || !layer.rule) {
    return {};
  }
  sparsity::MaskConfig config;
  config.sparsity_level = *layer.sparsity_level;
  config.sparse_block_shape = *layer.sparse_block_shape;
  config.zeros_per_block = *layer.zeros_per_block;
  config.rule = *layer.rule;
  return config.vnm() ? sparsity::pattern_name(config) : std::string();
}

void add_block_fields(Lines& lines, const sparsity::SparseLayerConfig& layer) {
  if (layer.sparsity_level) {
    lines.line("sparsity_level", *layer.sparsity_level);
  }
  if (layer.sparse_block_shape) {
    lines.line("sparse_block_shape",
               str_cat("[", (*layer.sparse_block_shape)[0], ", ", (*layer.sparse_block_shape)[1], "]"));
  }
  if (layer.zeros_per_block) {
    lines.line("zeros_per_block", *layer.zeros_per_block);
  }
}

void add_sparsity(Lines& lines, const StageRecipe& stage, LayerText layers) {
  if (stage.sparsifier) {
    const SparsifierRecipe& sparsifier = *stage.sparsifier;
    lines.line("sparsifier.name", text(sparsifier.name));
    if (!sparsifier.pattern.empty()) {
      lines.line("sparsifier.pattern", text(sparsifier.pattern));
    } else {
      add_block(lines, "sparsifier.", sparsifier.config);
    }
    lines.line("sparsifier.norm", std::int64_t{sparsifier.config.norm});
    if (stage.kind != StageKind::kOneShot) {
      lines.line("sparsifier.sr_ste_decay", sparsifier.sr_ste_decay);
    }
  }
  if (stage.sparsity_schedule) {
    const SparsityScheduleRecipe& schedule = *stage.sparsity_schedule;
    lines.line("sparsity_schedule.name", text(to_string(schedule.curve)));
    if (schedule.curve != sparsity::LevelCurve::kConstant) {
      lines.line("sparsity_schedule.from", schedule.from);
      lines.line("sparsity_schedule.until_epoch", schedule.until_epoch);
      lines.line("sparsity_schedule.moves", text(schedule.epoch_wise ? "epoch" : "step"));
    }
    if (schedule.curve == sparsity::LevelCurve::kPolynomial) {
      lines.line("sparsity_schedule.power", schedule.power);
    }
    if (schedule.hold_epoch >= 0.0) {
      lines.line("sparsity_schedule.hold_epoch", schedule.hold_epoch);
    }
    lines.line("sparsity_schedule.update_every", schedule.update_every);
  }
  for (const sparsity::SparseLayerConfig& layer : stage.layers) {
    lines.table("[[stage.layers]]");
    lines.line("tensor_fqn", text(layer.tensor_fqn));
    const bool transposable = layer.rule == sparsity::BlockRule::kTransposable;
    if (layer.dense || transposable) {
      lines.line("pattern", text(layer.dense ? "dense" : sparsity::kTransposablePattern));
    }
    if (!layer.why.empty()) {
      lines.line("why", text(layer.why));
    }
    const std::string pattern = layers == LayerText::kPattern && !transposable ? whole_pattern(layer) : std::string();
    if (!pattern.empty()) {
      lines.line("pattern", text(pattern));
    } else if (!transposable) {
      add_block_fields(lines, layer);
    }
    if (layer.norm) {
      lines.line("norm", std::int64_t{*layer.norm});
    }
    if (pattern.empty() && layer.rule && !transposable) {
      lines.line("whole_columns", *layer.rule == sparsity::BlockRule::kWholeColumns);
    }
  }
}

void add_schemes(Lines& lines, const quant::QATConfig& config) {
  for (const auto& [key, value] : scheme_keys(config.scheme)) {
    lines.line("quantize." + key, value);
  }
  std::vector<std::string> layers;
  for (const quant::SchemeException& exception : config.layers) {
    std::string layer = str_cat("{ tensor_fqn = ", text(exception.tensor_fqn));
    for (const auto& [key, value] : scheme_keys(exception.scheme)) {
      layer += str_cat(", ", key, " = ", value);
    }
    layers.push_back(layer + " }");
  }
  if (!layers.empty()) {
    lines.line("quantize.layers", str_cat("[", join(layers, ", "), "]"));
  }
}

void add_optimizer(Lines& lines, const train::OptimizerOptions& optimizer) {
  lines.line("optimizer.name", text(to_string(optimizer.kind)));
  lines.line("optimizer.lr", optimizer.lr);
  lines.line("optimizer.weight_decay", optimizer.weight_decay);
  if (optimizer.kind == train::OptimizerKind::kSgd) {
    lines.line("optimizer.momentum", optimizer.momentum);
    lines.line("optimizer.nesterov", optimizer.nesterov);
  } else {
    lines.line("optimizer.betas", numbers_text(std::vector<double>{optimizer.beta1, optimizer.beta2}));
    lines.line("optimizer.eps", optimizer.eps);
  }
}

void add_schedule(Lines& lines, const train::LrSchedule& schedule) {
  lines.line("schedule.name", text(to_string(schedule.curve)));
  lines.line("schedule.warmup_steps", schedule.warmup_steps);
  if (schedule.curve == train::LrCurve::kCosine) {
    lines.line("schedule.final_fraction", schedule.final_fraction);
  }
  if (schedule.curve == train::LrCurve::kStep) {
    lines.line("schedule.milestones", numbers_text(schedule.milestones));
    lines.line("schedule.gamma", schedule.gamma);
  }
}

void add_stage(Lines& lines, const StageRecipe& stage, LayerText layers) {
  lines.table("[[stage]]");
  lines.line("name", text(stage.name));  // first: recipe_differences reads it before the rest
  lines.line("kind", text(to_string(stage.kind)));
  if (stage.max_accuracy_drop) {
    lines.line("max_accuracy_drop", *stage.max_accuracy_drop);
  }
  if (stage.kind == StageKind::kPruneChannels) {
    const channels::ChannelPruningConfig& config = stage.channels;
    lines.line("criterion", text(to_string(config.criterion)));
    lines.line("sparsity_level", config.sparsity_level);
    lines.line("width_multiple", config.width_multiple);
    lines.line("norm", std::int64_t{config.norm == channels::RowNorm::kL1 ? 1 : 2});
    if (config.criterion == channels::ChannelCriterion::kTaylor) {
      lines.line("calibrate.images", stage.calibration_images);
    }
    for (const auto& [weight, level] : config.levels) {
      lines.table("[[stage.layers]]");
      lines.line("tensor_fqn", text(weight));
      lines.line("sparsity_level", level);
    }
  } else if (!trains(stage.kind)) {
    lines.line("calibrate.images", stage.calibration_images);
    if (stage.kind == StageKind::kCalibrate) {
      lines.line("calibrate.bias_correction", stage.calibration.bias_correction);
      if (stage.calibration.rounding != quant::Rounding::kNearest) {
        lines.line("calibrate.rounding", text(to_string(stage.calibration.rounding)));
      }
      if (stage.calibration.rescaling != quant::Rescaling::kNone) {
        lines.line("calibrate.rescale", text(to_string(stage.calibration.rescaling)));
      }
    }
  } else {
    lines.line("epochs", stage.epochs);
    add_optimizer(lines, stage.optimizer);
    add_schedule(lines, stage.schedule);
  }
  if (stage.distill) {
    const train::DistillationOptions& options = stage.distill->options;
    lines.line("distill.teacher", text(stage.distill->teacher));
    lines.line("distill.temperature", options.temperature);
    lines.line("distill.weight", options.weight);
    lines.line("distill.layers", texts_text(options.layers));
    lines.line("distill.layers_weight", options.layers_weight);
  }
  if (quantizes(stage.kind)) {
    const quant::ObserverOptions& observer = stage.quantize.observer;
    // The default is left out, as it was before there were others: so older runs can be resumed.
    if (stage.quantize.scheme != quant::LayerScheme{} || !stage.quantize.layers.empty()) {
      add_schemes(lines, stage.quantize);
    }
    if (stage.quantize.learned_steps) {
      lines.line("quantize.learned_steps", true);
    } else {
      lines.line("quantize.observer", text(to_string(observer.kind)));
      if (observer.kind == quant::ObserverKind::kMovingAverageMinMax) {
        lines.line("quantize.averaging_constant", observer.averaging_constant);
      }
    }
    if (observer.kind == quant::ObserverKind::kPercentile) {
      lines.line("quantize.outside", observer.outside);
    }
    if (stage.freeze_observers_epoch >= 0.0) {
      lines.line("quantize.freeze_observers_epoch", stage.freeze_observers_epoch);
    }
    lines.line("quantize.fold_batch_norm", stage.quantize.fold_batch_norm);
  }
  if (stage.permute_channels) {
    lines.line("permute_channels", true);
  }
  if (!stage.sparse_activations.empty()) {
    lines.line("sparse_activations", texts_text(stage.sparse_activations));
  }
  add_sparsity(lines, stage, layers);
}

bool ends_at_training(const Recipe& recipe) {
  return std::none_of(recipe.stages.begin(), recipe.stages.end(),
                      [](const StageRecipe& stage) { return quantizes(stage.kind); });
}

// Lines that training does not depend on.
bool is_limit(std::string_view line) { return line.starts_with("max_accuracy_drop") || line.starts_with("target"); }

// The lines, each with its full key as --set writes it: "stage.qat.epochs = 3".
std::vector<std::string> training_lines(const std::string& canonical) {
  std::vector<std::string> lines;
  std::string stage;
  std::string prefix;
  std::size_t begin = 0;
  while (begin < canonical.size()) {
    const std::size_t end = std::min(canonical.find('\n', begin), canonical.size());
    const std::string line = canonical.substr(begin, end - begin);
    begin = end + 1;
    if (line == "[[stage]]") {
      prefix = "stage.";
    } else if (line == "[[stage.layers]]") {
      prefix = str_cat(stage, "layers.");
    } else if (line.starts_with('[')) {
      prefix = str_cat(std::string_view(line).substr(1, line.size() - 2), ".");
    } else if (!line.empty() && !is_limit(line)) {
      if (prefix == "stage." && line.starts_with("name = \"")) {
        stage = prefix = str_cat("stage.", std::string_view(line).substr(8, line.size() - 9), ".");
      }
      lines.push_back(prefix + line);
    }
  }
  return lines;
}

}  // namespace

std::string canonical_text(const Recipe& recipe, LayerText layers) {
  Lines lines;
  lines.line("name", text(recipe.name));
  lines.line("seed", static_cast<std::int64_t>(recipe.seed));
  lines.line("device", text(recipe.device));
  lines.line("threads", recipe.threads);
  lines.table("[model]");
  lines.line("builtin", text(recipe.model));
  if (!recipe.checkpoint.empty()) {
    lines.line("checkpoint", text(recipe.checkpoint.string()));
  }
  add_data(lines, recipe.data);
  for (const StageRecipe& stage : recipe.stages) {
    add_stage(lines, stage, layers);
  }
  if (!ends_at_training(recipe)) {
    lines.table("[convert]");
    lines.line("squash_mask", recipe.squash_mask);
    lines.line("sparsify", text(recipe.sparsify));
  }
  if (recipe.max_accuracy_drop) {
    lines.table("[accept]");
    lines.line("max_accuracy_drop", *recipe.max_accuracy_drop);
  }
  if (!recipe.target.empty()) {
    lines.table("[check]");
    lines.line("target", text(recipe.target));
  }
  return lines.str();
}

std::string training_prefix(const Recipe& recipe, std::size_t stages) {
  Recipe prefix = recipe;
  prefix.name.clear();
  prefix.stages.resize(stages);
  prefix.max_accuracy_drop.reset();
  prefix.target.clear();
  prefix.squash_mask = true;
  prefix.sparsify = kSparsifyAuto;
  for (StageRecipe& stage : prefix.stages) {
    stage.max_accuracy_drop.reset();
  }
  return canonical_text(prefix);
}

std::vector<std::string> recipe_differences(const std::string& before, const std::string& after) {
  // Longest common subsequence: a stage that was put in shows as its own lines only.
  const std::vector<std::string> a = training_lines(before);
  const std::vector<std::string> b = training_lines(after);
  std::vector<std::vector<std::size_t>> common(a.size() + 1, std::vector<std::size_t>(b.size() + 1, 0));
  for (std::size_t i = a.size(); i-- > 0;) {
    for (std::size_t j = b.size(); j-- > 0;) {
      common[i][j] = a[i] == b[j] ? common[i + 1][j + 1] + 1 : std::max(common[i + 1][j], common[i][j + 1]);
    }
  }
  std::vector<std::string> differences;
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < a.size() || j < b.size()) {
    if (i < a.size() && j < b.size() && a[i] == b[j]) {
      ++i;
      ++j;
    } else if (j == b.size() || (i < a.size() && common[i + 1][j] >= common[i][j + 1])) {
      differences.push_back("- " + a[i++]);
    } else {
      differences.push_back("+ " + b[j++]);
    }
  }
  return differences;
}

}  // namespace pare::pipeline
