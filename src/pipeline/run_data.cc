#include "pare/pipeline/run_data.h"

#include <algorithm>
#include <utility>

#include "pare/base/error.h"
#include "pare/base/strings.h"

namespace pare::pipeline {
namespace {

[[noreturn]] void fail(const Recipe& recipe, const std::string& problem, const std::string& remedy) {
  throw Error(ErrorCategory::kInvalidArgument, problem, recipe.path.string() + ": [data]", remedy);
}

train::Dataset limited(const Recipe& recipe, const train::Dataset& dataset, std::int64_t limit,
                       const std::string& key) {
  if (limit == 0) {
    return dataset;
  }
  if (limit > dataset.size()) {
    fail(recipe, str_cat(key, " asks for ", limit, " images; there are ", dataset.size()),
         "lower it, or leave it out for all");
  }
  return dataset.first(limit);
}

void check_labels(const Recipe& recipe, const train::Dataset& dataset, std::int64_t classes, const std::string& which) {
  const auto largest = dataset.labels.max().item<std::int64_t>();
  if (largest >= classes) {
    fail(recipe, str_cat("the ", which, " labels go up to ", largest, "; there are ", classes, " class names"),
         "name every class in class_names");
  }
}

}  // namespace

RunData load_run_data(const Recipe& recipe) {
  const DataRecipe& wanted = recipe.data;
  train::DatasetPair pair;
  if (!wanted.set.empty()) {
    pair = train::known_dataset(wanted.set);
  } else {
    pair.train = train::load_idx_dataset(wanted.train->images, wanted.train->labels, wanted.class_names);
    pair.test = train::load_idx_dataset(wanted.test->images, wanted.test->labels, wanted.class_names);
  }
  RunData data;
  data.train = limited(recipe, pair.train, wanted.limit_train, "limit_train");
  data.test = limited(recipe, pair.test, wanted.limit_test, "limit_test");

  data.class_names = !wanted.class_names.empty() ? wanted.class_names : pair.train.class_names;
  if (data.class_names.empty()) {
    const std::int64_t classes =
        1 + std::max(pair.train.labels.max().item<std::int64_t>(), pair.test.labels.max().item<std::int64_t>());
    for (std::int64_t i = 0; i < classes; ++i) {
      data.class_names.push_back(std::to_string(i));
    }
  }
  check_labels(recipe, data.train, data.classes(), "training");
  check_labels(recipe, data.test, data.classes(), "test");
  if (data.classes() < 2) {
    fail(recipe, "all images are of one class", "a classifier needs two");
  }

  const auto train_sizes = data.train.images.sizes();
  const auto test_sizes = data.test.images.sizes();
  data.image.assign(train_sizes.begin() + 1, train_sizes.end());
  if (!std::equal(train_sizes.begin() + 1, train_sizes.end(), test_sizes.begin() + 1, test_sizes.end())) {
    fail(recipe,
         str_cat("training images are ", pare::to_string(data.image), ", test images ",
                 pare::to_string(Shape(test_sizes.begin() + 1, test_sizes.end()))),
         "both must have the same channels, height and width");
  }
  if (static_cast<std::int64_t>(wanted.normalize.mean.size()) != data.image[0]) {
    fail(recipe,
         str_cat("normalize is for ", wanted.normalize.mean.size(), " channels; the images have ", data.image[0]),
         "give one mean and one std for every channel");
  }
  if (data.train.size() < wanted.batch) {
    fail(recipe, str_cat("a batch of ", wanted.batch, " needs more than the ", data.train.size(), " training images"),
         "lower batch, or raise limit_train");
  }
  return data;
}

train::CalibrationSet first_images(const RunData& data, const Recipe& recipe, std::int64_t images,
                                   const std::string& where) {
  const std::int64_t count = std::min(images, data.train.size());
  const std::int64_t batch = std::min(recipe.data.batch, count);
  const torch::Tensor pixels = data.train.images.narrow(0, 0, count);
  if (count > 1 && (pixels == pixels.narrow(0, 0, 1)).all().item<bool>()) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("all of the first ", count, " training images are the same"),
                where, "calibrate with images that differ: raise 'images', or look at the data");
  }
  return {.batches = (count + batch - 1) / batch,
          .batch =
              [pixels, batch, count, normalize = recipe.data.normalize](std::int64_t index) {
                const std::int64_t first = index * batch;
                return train::normalize(pixels.narrow(0, first, std::min(batch, count - first)), normalize);
              },
          .progress = {}};
}

}  // namespace pare::pipeline
