// pare-run infer and eval: what the model makes of images.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <span>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/base/text_table.h"
#include "pare/cli/pare_run_commands.h"
#include "pare/cli/pare_run_images.h"
#include "pare/cli/pare_run_numbers.h"
#include "pare/runtime/evaluate.h"
#include "pare/runtime/session.h"

namespace pare::cli {

namespace {

using Json = nlohmann::ordered_json;
using runtime::Session;

// Larger than a session's default: fewer moments at which threads wait for each other.
constexpr std::int64_t kSlice = 256;

std::string class_name(const Session& session, std::int64_t index) {
  const std::vector<std::string>& names = session.class_names();
  return names.empty() ? str_cat("class ", index) : names.at(static_cast<std::size_t>(index));
}

// Reads what the model classifies.
Images images_for(const Session& session, const std::filesystem::path& model, const std::filesystem::path& images) {
  if (!session.takes_images() || session.output_shape().size() != 1) {
    throw Error(ErrorCategory::kInvalidArgument,
                str_cat("the model makes float32 ", to_string(session.output_shape()), " of ",
                        session.takes_images() ? "images" : "float32", " ", to_string(session.input_shape()),
                        ": it does not classify images"),
                model.string(), "run it through the C or C++ API; \"pare-run bench\" and \"inspect\" work");
  }
  return read_images(images, session.input_shape());
}

std::vector<std::int64_t> chosen_images(const InferOptions& options, std::int64_t count) {
  constexpr std::int64_t kShownByDefault = 10;
  if (options.first > count) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("--first ", options.first, " of ", count, " images"),
                options.images.string());
  }
  std::vector<std::int64_t> chosen = options.index;
  const std::int64_t first = options.first > 0 ? options.first : std::min(count, kShownByDefault);
  for (std::int64_t i = 0; options.index.empty() && i < first; ++i) chosen.push_back(i);
  for (const std::int64_t index : chosen) {
    if (index < 0 || index >= count) {
      throw Error(ErrorCategory::kInvalidArgument, str_cat("--index ", index, " of ", count, " images"),
                  options.images.string(), str_cat("images count from 0 to ", count - 1));
    }
  }
  return chosen;
}

}  // namespace

int run_infer(const RunOptions& run, const InferOptions& options) {
  Session session = load_session(run, kSlice);
  const Images images = images_for(session, run.model, options.images);
  const std::vector<std::uint8_t> labels =
      options.labels.empty() ? std::vector<std::uint8_t>{} : read_labels(options.labels, images.count);
  const std::vector<std::int64_t> chosen = chosen_images(options, images.count);
  const auto elems = static_cast<std::size_t>(session.input_elems());
  const auto classes = static_cast<std::size_t>(session.classes());
  std::vector<std::uint8_t> pixels;
  for (const std::int64_t index : chosen) {
    const auto begin = images.pixels.begin() + index * session.input_elems();
    pixels.insert(pixels.end(), begin, begin + session.input_elems());
  }
  std::vector<float> logits(chosen.size() * classes);
  session.run(std::span<const std::uint8_t>(pixels).first(chosen.size() * elems),
              static_cast<std::int64_t>(chosen.size()), logits);

  TextTable table(
      {{"image", TextTable::Align::kRight}, {"class"}, {"probability", TextTable::Align::kRight}, {"label"}, {""}});
  Json json = Json::array();
  std::size_t right = 0;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const std::span<const float> row = std::span<const float>(logits).subspan(i * classes, classes);
    const std::int64_t predicted = runtime::predicted_class(row);
    const std::vector<double> p = runtime::probabilities(row);
    const double probability = p[static_cast<std::size_t>(predicted)];
    Json entry = {{"image", chosen[i]},
                  {"class", predicted},
                  {"name", class_name(session, predicted)},
                  {"probability", probability},
                  {"logits", row}};
    std::string label_name;
    std::string verdict;
    if (!labels.empty()) {
      const std::int64_t label = labels[static_cast<std::size_t>(chosen[i])];
      label_name = label < session.classes() ? class_name(session, label) : str_cat("class ", label);
      verdict = label == predicted ? "" : "wrong";
      right += label == predicted ? 1 : 0;
      entry["label"] = label;
    }
    json.push_back(std::move(entry));
    table.add_row({std::to_string(chosen[i]), class_name(session, predicted), fixed(100.0 * probability, 1) + " %",
                   label_name, verdict});
  }
  if (run.json) {
    std::printf("%s\n", json.dump(2).c_str());
    return kExitDone;
  }
  std::fputs(table.text().c_str(), stdout);
  if (!labels.empty()) std::printf("%zu of %zu right\n", right, chosen.size());
  return kExitDone;
}

int run_eval(const RunOptions& run, const EvalOptions& options) {
  const TestSet files = options.set.empty() ? TestSet{options.images, options.labels} : known_test_set(options.set);
  Session session = load_session(run, kSlice);
  const Images images = images_for(session, run.model, files.images);
  const std::vector<std::uint8_t> labels = read_labels(files.labels, images.count);
  if (options.first > images.count) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("--first ", options.first, " of ", images.count, " images"),
                files.images.string());
  }
  const auto count = static_cast<std::size_t>(options.first > 0 ? options.first : images.count);
  const runtime::Evaluation result = runtime::evaluate(
      session, std::span(images.pixels).first(count * static_cast<std::size_t>(session.input_elems())),
      std::span(labels).first(count));
  if (run.json) {
    Json json = {{"model", run.model.string()},      {"samples", result.samples},
                 {"correct", result.correct},        {"accuracy", result.accuracy_percent()},
                 {"classes", session.class_names()}, {"confusion", result.confusion}};
    std::printf("%s\n", json.dump(2).c_str());
    return kExitDone;
  }
  std::printf("accuracy %.2f %%  (%lld of %lld images right)\n\n", result.accuracy_percent(),
              static_cast<long long>(result.correct), static_cast<long long>(result.samples));
  std::vector<TextTable::Column> columns{{"true \\ predicted"}};
  for (std::int64_t c = 0; c < session.classes(); ++c) columns.push_back({std::to_string(c), TextTable::Align::kRight});
  columns.push_back({"right", TextTable::Align::kRight});
  TextTable table(std::move(columns));
  for (std::size_t label = 0; label < result.confusion.size(); ++label) {
    const std::vector<std::int64_t>& row = result.confusion[label];
    std::vector<std::string> cells{str_cat(label, " ", class_name(session, static_cast<std::int64_t>(label)))};
    std::int64_t all = 0;
    for (const std::int64_t predicted : row) {
      cells.push_back(predicted == 0 ? "." : std::to_string(predicted));
      all += predicted;
    }
    cells.push_back(all == 0 ? "-"
                             : fixed(100.0 * static_cast<double>(row[label]) / static_cast<double>(all), 1) + " %");
    table.add_row(std::move(cells));
  }
  std::fputs(table.text().c_str(), stdout);
  return kExitDone;
}

}  // namespace pare::cli
