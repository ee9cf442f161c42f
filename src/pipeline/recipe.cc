#include "pare/pipeline/recipe.h"

#include <algorithm>
#include <set>
#include <system_error>
#include <utility>

#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/graph/builtin.h"
#include "pare/pipeline/recipe_overrides.h"
#include "pare/pipeline/recipe_reader.h"
#include "pare/pipeline/recipe_stage.h"
#include "pare/pipeline/recipe_text.h"
#include "pare/pipeline/targets.h"

namespace pare::pipeline {
namespace {

constexpr const char* kNoQat = "add a [[stage]] with kind = \"qat\" at the end, or use `pare train` to train only";

// A file that must be there.
std::filesystem::path read_path(TableReader& reader, const std::string& key, const std::string& remedy,
                                const std::filesystem::path& folder) {
  std::filesystem::path path = reader.required_text(key, remedy);
  if (path.is_relative()) {
    path = folder / path;
  }
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) {
    reader.fail(key, str_cat("there is no file ", path.string()), "relative paths are taken from the recipe's folder",
                ErrorCategory::kNotFound);
  }
  return path.lexically_normal();
}

FilesRecipe read_files(TableReader& reader, const std::filesystem::path& folder) {
  FilesRecipe files;
  const std::vector<std::string> formats = {"idx"};
  files.format = reader.choice("format", files.format, formats);
  const char* const remedy = "name an IDX file, plain or .gz";
  files.images = read_path(reader, "images", remedy, folder);
  files.labels = read_path(reader, "labels", remedy, folder);
  reader.finish();
  return files;
}

train::Normalization read_normalization(TableReader& reader) {
  train::Normalization normalization;
  const auto mean = reader.numbers("mean", kAnyNumber);
  const auto std = reader.numbers("std", kPositive);
  if (!mean || !std) {
    reader.fail_here("'normalize' needs 'mean' and 'std'", "as in normalize = { mean = [0.2860], std = [0.3530] }");
  }
  if (mean->empty() || mean->size() != std->size()) {
    reader.fail("std", str_cat("'mean' has ", mean->size(), " numbers and 'std' has ", std->size()),
                "give one of each for every channel");
  }
  normalization.mean.assign(mean->begin(), mean->end());
  normalization.std.assign(std->begin(), std->end());
  for (std::size_t i = 0; i < normalization.std.size(); ++i) {
    if (!(normalization.std[i] > 1e-20F) || !(normalization.std[i] < 1e20F)) {
      reader.fail("std", str_cat("'std' of ", (*std)[i], " cannot divide a pixel"));
    }
  }
  reader.finish();
  return normalization;
}

DataRecipe read_data(TableReader& reader, const std::filesystem::path& folder) {
  DataRecipe data;
  data.normalize = {{0.0F}, {1.0F}};
  const std::vector<std::string> sets = train::known_dataset_names();
  auto train_files = reader.table("train");
  auto test_files = reader.table("test");
  if (reader.has("set")) {
    data.set = reader.choice("set", "", sets);
    if (train_files || test_files) {
      reader.fail("set", "'set' and files of one's own exclude each other", "give either 'set' or 'train' and 'test'");
    }
  } else {
    static_cast<void>(reader.text("set"));
    if (!train_files || !test_files) {
      reader.fail_here(train_files  ? "there is no 'test' in data"
                       : test_files ? "there is no 'train' in data"
                                    : "data names no images",
                       str_cat("write set = \"", sets.empty() ? "fashion-mnist" : sets.front(),
                               "\", or train = { images = …, labels = … } and test = { … }"));
    }
    data.train = read_files(*train_files, folder);
    data.test = read_files(*test_files, folder);
  }
  if (auto names = reader.texts("class_names")) {
    data.class_names = *names;
    const std::set<std::string> different(names->begin(), names->end());
    if (names->size() < 2 || different.size() != names->size()) {
      reader.fail("class_names", "'class_names' needs at least two names, all different");
    }
  }
  if (auto normalize = reader.table("normalize")) {
    data.normalize = read_normalization(*normalize);
  }
  if (auto augment = reader.table("augment")) {
    data.flip = augment->boolean("flip", data.flip);
    augment->finish();
  }
  data.batch = reader.integer("batch", data.batch, 1, 65536);
  data.limit_train = reader.integer("limit_train", 0, 0, std::int64_t{1} << 40);
  data.limit_test = reader.integer("limit_test", 0, 0, std::int64_t{1} << 40);
  reader.finish({{"flip", "write augment = { flip = true }"},
                 {"mean", "write normalize = { mean = […], std = […] }"},
                 {"std", "write normalize = { mean = […], std = […] }"},
                 {"batch_size", "did you mean 'batch'?"}});
  return data;
}

// `before`: names of the stages before this one.
void check_distill(const TableReader& stage, const DistillRecipe& distill, const std::set<std::string>& before,
                   const graph::Graph& network) {
  if (!before.contains(distill.teacher)) {
    const std::vector<std::string> known(before.begin(), before.end());
    stage.fail("distill", str_cat("no stage before this one is called '", distill.teacher, "'"),
               known.empty() ? "a teacher is trained first: put a stage before this one"
                             : did_you_mean(distill.teacher, known),
               ErrorCategory::kNotFound);
  }
  // Folding takes batch norm away, and with it what its convolution put out.
  const auto is_batch_norm = [](const graph::Node* node) { return node->op_type == "BatchNormalization"; };
  std::vector<std::string> nodes;
  for (const graph::Node& node : network.nodes) {
    const std::vector<const graph::Node*> readers = network.consumers_of(node.output);
    if (!is_batch_norm(&node) && std::none_of(readers.begin(), readers.end(), is_batch_norm)) {
      nodes.push_back(node.name);
    }
  }
  for (const std::string& layer : distill.options.layers) {
    if (std::find(nodes.begin(), nodes.end(), layer) == nodes.end()) {
      stage.fail("distill", str_cat("the model has no layer '", layer, "' that both networks have alike"),
                 did_you_mean(layer, nodes), ErrorCategory::kNotFound);
    }
  }
}

// Outputs of layers can be compared only while both networks have the same channels in the same order.
void check_layers_match(const TableReader& reader, const StageRecipe& stage, const std::vector<StageRecipe>& before) {
  if (stage.distill->options.layers.empty()) {
    return;
  }
  bool changed = stage.permute_channels;
  for (const StageRecipe& earlier : before) {
    changed = earlier.name != stage.distill->teacher &&
              (changed || earlier.permute_channels || earlier.kind == StageKind::kPruneChannels);
  }
  if (changed || stage.permute_channels) {
    reader.fail("distill", str_cat("channels change between '", stage.distill->teacher, "' and this stage"),
                "leave 'layers' out: logits can be compared all the same");
  }
}

void check_sparse_activations(const TableReader& reader, const StageRecipe& stage, const graph::Graph& network) {
  std::vector<std::string> linear;
  for (const graph::Node& node : network.nodes) {
    if (node.op_type == "Gemm") {
      linear.push_back(node.inputs[1]);
    }
  }
  for (const std::string& name : stage.sparse_activations) {
    if (std::none_of(linear.begin(), linear.end(),
                     [&](const std::string& weight) { return glob_match(name, weight); })) {
      reader.fail("sparse_activations", str_cat("no linear layer of the model has a weight called '", name, "'"),
                  did_you_mean(name, linear), ErrorCategory::kNotFound);
    }
  }
}

void read_stages(TableReader& top, const toml::table& table, Recipe& recipe) {
  const graph::Graph network = graph::builtin(recipe.model);
  const std::vector<std::string> weights = network.weight_names();
  const std::vector<std::string> names = stage_names(table);
  std::vector<TableReader> readers = top.tables("stage");
  if (readers.empty()) {
    top.fail_here("the recipe has no [[stage]]", "add one, as in [[stage]] kind = \"dense\"");
  }
  bool qat_seen = false;
  std::set<std::string> seen;
  for (std::size_t i = 0; i < readers.size(); ++i) {
    StageRecipe stage = read_stage(readers[i], names[i], weights);
    if (stage.distill) {
      check_distill(readers[i], *stage.distill, seen, network);
      check_layers_match(readers[i], stage, recipe.stages);
    }
    check_sparse_activations(readers[i], stage, network);
    if (quantizes(stage.kind)) {
      try {
        static_cast<void>(quant::plan_schemes(network, stage.quantize.scheme, stage.quantize.layers));
      } catch (const Error& error) {
        readers[i].fail("quantize", error.problem(), error.remedy(), error.category());
      }
    }
    if (!seen.insert(stage.name).second) {
      readers[i].fail("name", str_cat("two stages are called '", stage.name, "'"), "give one of them another name");
    }
    if (qat_seen) {
      readers[i].fail("kind", str_cat("stage '", stage.name, "' comes after the qat stage"),
                      "QAT is the last stage: quantizers and folded batch norm do not come off again");
    }
    qat_seen = quantizes(stage.kind);
    if (i == 0 && stage.max_accuracy_drop) {
      readers[i].fail("max_accuracy_drop", "the first stage has no stage before it to compare with",
                      "put the limit on a later stage, or under [accept]");
    }
    if (!trains(stage.kind) && i == 0 && recipe.checkpoint.empty()) {
      readers[i].fail("kind",
                      str_cat("there is nothing trained yet for a stage of kind \"", to_string(stage.kind), "\""),
                      "put a stage of kind = \"dense\" before it, or give [model] a 'checkpoint'");
    }
    if (stage.kind == StageKind::kQat && stage.sparsity_schedule && !stage.sparsifier &&
        (i == 0 || recipe.stages.back().kind != StageKind::kSparse)) {
      readers[i].fail("sparsity_schedule",
                      str_cat("stage '", stage.name, "' finds no masks that a schedule could move"),
                      "put a sparse stage right before it, or give it a 'sparsifier' of its own");
    }
    recipe.stages.push_back(std::move(stage));
  }
}

bool reaches_integers(const Recipe& recipe) {
  return std::any_of(recipe.stages.begin(), recipe.stages.end(),
                     [](const StageRecipe& stage) { return quantizes(stage.kind); });
}

void read_convert(TableReader& reader, Recipe& recipe) {
  if (!reaches_integers(recipe)) {
    reader.fail_here("there is no stage that quantizes, so nothing can be converted", kNoQat);
  }
  recipe.squash_mask = reader.boolean("squash_mask", recipe.squash_mask);
  const std::vector<std::string> forms = {kSparsifyAuto, "2:4", kSparsifyDense};
  recipe.sparsify = reader.choice("sparsify", recipe.sparsify, forms);
  if (!recipe.squash_mask) {
    reader.fail(
        "squash_mask",
        "squash_mask = false cannot be converted: an artifact holds plain weights, so masks must be written into "
        "them first",
        "leave squash_mask out (it happens after QAT has finished, where it is safe), or use `pare train`");
  }
  reader.finish();
}

Recipe read_recipe(const toml::table& table, const std::filesystem::path& path, const std::string& file) {
  TableReader top(table, "", file);
  Recipe recipe;
  recipe.path = path;
  recipe.name = top.text("name", path.stem().string());
  if (recipe.name.empty() ||
      recipe.name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") !=
          std::string::npos ||
      recipe.name.starts_with('.')) {
    top.fail("name", str_cat("the name '", recipe.name, "' would be no good folder name"),
             "use letters, digits, '_', '-' and '.'");
  }
  recipe.seed = static_cast<std::uint64_t>(
      top.integer("seed", static_cast<std::int64_t>(recipe.seed), 0, std::numeric_limits<std::int64_t>::max()));
  recipe.device = top.text("device", recipe.device);
  const bool cuda_index = recipe.device.starts_with("cuda:") && recipe.device.size() > 5 && recipe.device.size() < 9 &&
                          recipe.device.find_first_not_of("0123456789", 5) == std::string::npos;
  if (recipe.device != "cpu" && recipe.device != "cuda" && !cuda_index) {
    top.fail("device", str_cat("\"", recipe.device, "\" is no device"), "write \"cpu\", \"cuda\" or \"cuda:1\"");
  }
  recipe.threads = top.integer("threads", recipe.threads, 0, 1024);

  auto model = top.table("model");
  if (!model) {
    top.fail_here("there is no [model]", "write [model] builtin = \"convnet\"");
  }
  static_cast<void>(model->required_text("builtin", "write builtin = \"convnet\" or \"mlp\""));
  recipe.model = model->choice("builtin", "", graph::builtin_names());
  const std::filesystem::path folder = std::filesystem::absolute(path).parent_path();
  if (model->has("checkpoint")) {
    recipe.checkpoint = read_path(*model, "checkpoint", "name a stages/NAME.ckpt of a run", folder);
  }
  model->finish();

  auto data = top.table("data");
  if (!data) {
    top.fail_here("there is no [data]", "write [data] set = \"fashion-mnist\"");
  }
  recipe.data = read_data(*data, folder);
  read_stages(top, table, recipe);
  if (auto convert = top.table("convert")) {
    read_convert(*convert, recipe);
  }
  if (auto accept = top.table("accept")) {
    recipe.max_accuracy_drop = accept->number("max_accuracy_drop", NumberRange{0.0, 100.0});
    if (recipe.max_accuracy_drop && recipe.stages.front().kind != StageKind::kDense) {
      accept->fail("max_accuracy_drop",
                   "the recipe begins with no dense stage that the artifact could be compared with",
                   "put a dense stage first, or use max_accuracy_drop of a stage");
    }
    accept->finish();
  }
  if (auto check = top.table("check")) {
    if (check->has("target")) {
      recipe.target = check->choice("target", "", target_names());
    }
    static_cast<void>(check->text("target"));
    check->finish();
  }
  top.finish({{"epochs", "'epochs' belongs to a [[stage]]"},
              {"batch", "'batch' belongs to [data]"},
              {"max_accuracy_drop", "'max_accuracy_drop' belongs to [accept] or a [[stage]]"}});
  recipe.canonical_text = canonical_text(recipe);
  return recipe;
}

}  // namespace

Recipe parse_recipe(const std::string& toml_text, const std::filesystem::path& path,
                    const std::vector<std::string>& overrides) {
  const std::string file = path.string();
  toml::table table = parse_toml(toml_text, file);
  apply_overrides(table, overrides);
  return read_recipe(table, path, file);
}

Recipe load_recipe(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  return parse_recipe(read_text_file(path, kMaxRecipeBytes), path, overrides);
}

void require_convertible(const Recipe& recipe) {
  if (!reaches_integers(recipe)) {
    throw Error(ErrorCategory::kInvalidArgument,
                "the recipe has no stage that quantizes, so there is nothing to convert", recipe.path.string(), kNoQat);
  }
}

}  // namespace pare::pipeline
