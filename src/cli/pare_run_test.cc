// Runs the program as a user does, and looks at what it prints and returns.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pare/base/strings.h"
#include "pare/base/testing.h"
#include "pare/graph/testing/mixed_artifact.h"
#include "pare/graph/testing/random_artifact.h"
#include "pare/runtime/evaluate.h"
#include "pare/runtime/session.h"
#include "pare/runtime/testing/temporary_artifact.h"

namespace pare::cli {
namespace {

using Json = nlohmann::json;

struct Outcome {
  int code = -1;
  std::string out;
  std::string err;
};

std::string idx(const std::vector<std::uint32_t>& extents, const std::vector<std::uint8_t>& data) {
  std::string bytes{0, 0, 8, static_cast<char>(extents.size())};
  for (const std::uint32_t extent : extents) {
    for (const int shift : {24, 16, 8, 0}) bytes += static_cast<char>(extent >> shift & 0xFFU);
  }
  bytes.append(data.begin(), data.end());
  return bytes;
}

// A small model (1 x 12 x 12 images, 10 classes), 30 images and their labels: one in three is not what the model says.
class PareRun : public ::testing::Test {
 protected:
  static constexpr std::int64_t kCount = 30;

  PareRun() : artifact_(graph::testing::small_artifact(41, true)), file_(artifact_) {
    model_ = file_.path().string();
    images_ = runtime::testing::random_images(41, kCount, 144);
    runtime::Session session = runtime::Session::load(model_, {.threads = 1});
    logits_.resize(kCount * 10);
    session.run(images_, kCount, logits_);
    for (std::int64_t i = 0; i < kCount; ++i) {
      const std::int64_t predicted = prediction(i);
      labels_.push_back(static_cast<std::uint8_t>(i % 3 == 2 ? (predicted + 1) % 10 : predicted));
    }
    images_path_ = (folder_ / "images").string();
    labels_path_ = (folder_ / "labels").string();
    pare::testing::put_file(images_path_, idx({kCount, 12, 12}, images_));
    pare::testing::put_file(labels_path_, idx({kCount}, labels_));
  }

  [[nodiscard]] std::int64_t prediction(std::int64_t image) const {
    return runtime::predicted_class(std::span<const float>(logits_).subspan(static_cast<std::size_t>(image * 10), 10));
  }

  Outcome run(const std::string& arguments, const std::string& environment = "") {
    const std::string out = (folder_ / "out").string();
    const std::string err = (folder_ / "err").string();
    const int status =
        std::system(str_cat(environment, " ", PARE_RUN_PROGRAM, " ", arguments, " > ", out, " 2> ", err).c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, pare::testing::get_file(out), pare::testing::get_file(err)};
  }

  Json json(const std::string& arguments, int code = 0) {
    const Outcome outcome = run(arguments + " --json");
    EXPECT_EQ(outcome.code, code) << outcome.err;
    return Json::parse(outcome.out, nullptr, false);
  }

  void expect_error(const std::string& arguments, int code, const std::string& text,
                    const std::string& environment = "") {
    const Outcome outcome = run(arguments, environment);
    EXPECT_EQ(outcome.code, code) << arguments;
    EXPECT_TRUE(outcome.err.starts_with("pare-run: error: ")) << arguments << ": " << outcome.err;
    EXPECT_NE(outcome.err.find(text), std::string::npos) << arguments << ": " << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  }

  graph::Artifact artifact_;
  runtime::testing::TemporaryArtifact file_;
  pare::testing::TempDir folder_;
  std::string model_, images_path_, labels_path_;
  std::vector<std::uint8_t> images_, labels_;
  std::vector<float> logits_;
};

TEST_F(PareRun, HelpSaysWhatThereIsAndReturnsZero) {
  const Outcome help = run("--help");
  EXPECT_EQ(help.code, 0);
  for (const char* word :
       {"infer", "eval", "bench", "tune", "inspect", "verify", "--threads", "Exit codes", "PARE_ISA"}) {
    EXPECT_NE(help.out.find(word), std::string::npos) << word;
  }
  EXPECT_NE(run("bench --help").out.find("--rounds"), std::string::npos);
  EXPECT_EQ(run("--version").out, "pare-run " PARE_VERSION "\n");
}

TEST_F(PareRun, AModelThatTakesNoImagesIsShownAndTimedButNotInferred) {
  const runtime::testing::TemporaryArtifact encoder(graph::testing::encoder_artifact(42));
  const std::string model = encoder.path().string();
  for (const char* command : {"infer ", "eval "}) {
    expect_error(str_cat(command, model, " --images ", images_path_, " --labels ", labels_path_), 1,
                 "float32 [9, 24]: it does not classify images");
  }
  EXPECT_EQ(json("inspect " + model).at("output_shape"), (Json{9, 24}));
  EXPECT_NE(run("inspect " + model).out.find("[9, 24], float32"), std::string::npos);
  EXPECT_GT(json("bench " + model + " --batch 2 --rounds 2").at("seconds").at("min"), 0.0);
  EXPECT_EQ(run("verify " + model).code, 0);
}

TEST_F(PareRun, UsageErrorsReturnTwoAndSuggestWhatWasMeant) {
  expect_error("", 2, "infer, eval, bench, tune, inspect, verify");
  expect_error("infr " + model_, 2, "did you mean 'infer'?");
  expect_error("bench " + model_ + " --bacth 3", 2, "did you mean '--batch'?");
  expect_error("bench", 2, "model");
  expect_error("bench " + model_ + " --batch 0", 2, "--batch");
  expect_error("bench " + model_ + " --batch three", 2, "--batch");
  expect_error("bench " + model_ + " one more", 2, "'one'");
  expect_error("infer " + model_, 2, "--images");
  expect_error("eval " + model_, 2, "--set NAME");
  expect_error("eval " + model_ + " --images " + images_path_, 2, "--labels");
  expect_error("eval " + model_ + " --set fashion-mnist --images x", 2, "excludes");
  expect_error("--threads 5000 verify " + model_, 2, "--threads");
}

TEST_F(PareRun, FileErrorsReturnOneAndNameTheFile) {
  expect_error("verify /does/not/exist.pare", 1, "/does/not/exist.pare");
  expect_error("infer /does/not/exist.pare --images " + images_path_, 1, "/does/not/exist.pare");
  expect_error("infer " + model_ + " --images /does/not/exist", 1, "/does/not/exist");
  expect_error("infer " + images_path_ + " --images " + images_path_, 1, images_path_);
  expect_error("infer " + model_ + " --images " + model_, 1, model_);
  expect_error("infer " + model_ + " --images " + labels_path_, 1, labels_path_);
  expect_error("eval " + model_ + " --images " + images_path_ + " --labels " + images_path_, 1, "swapped");
  expect_error("eval " + model_ + " --set fashion-mnits", 1, "did you mean 'fashion-mnist'?");
  expect_error("infer " + model_ + " --first 31 --images " + images_path_, 1, "of 30 images");
  expect_error("infer " + model_ + " --index 2,30 --images " + images_path_, 1, "0 to 29");
  expect_error("inspect " + model_, 1, "bogus", "PARE_ISA=bogus");
  pare::testing::put_file(folder_ / "short", idx({kCount - 1}, {labels_.begin(), labels_.end() - 1}));
  expect_error("eval " + model_ + " --images " + images_path_ + " --labels " + (folder_ / "short").string(), 1,
               "29 labels for 30 images");
  std::vector<std::uint8_t> wrong = labels_;
  wrong[5] = 10;
  pare::testing::put_file(folder_ / "wrong", idx({kCount}, wrong));
  expect_error("eval " + model_ + " --images " + images_path_ + " --labels " + (folder_ / "wrong").string(), 1,
               "label 10 of image 5");
  pare::testing::put_file(folder_ / "other", idx({1, 28, 28}, std::vector<std::uint8_t>(784)));
  expect_error("infer " + model_ + " --images " + (folder_ / "other").string(), 1, "[1, 28, 28]");
}

TEST_F(PareRun, InferGivesClassesProbabilitiesAndLogits) {
  const Json result = json("infer " + model_ + " --images " + images_path_ + " --labels " + labels_path_ +
                           " --index 7,0,29 --threads 2");
  ASSERT_EQ(result.size(), 3U);
  const std::vector<std::int64_t> chosen = {7, 0, 29};
  for (std::size_t i = 0; i < 3; ++i) {
    const std::int64_t image = chosen[i];
    EXPECT_EQ(result[i]["image"], image);
    EXPECT_EQ(result[i]["class"], prediction(image));
    EXPECT_EQ(result[i]["name"], str_cat("class ", prediction(image)));
    EXPECT_EQ(result[i]["label"], labels_[static_cast<std::size_t>(image)]);
    const auto row = std::span<const float>(logits_).subspan(static_cast<std::size_t>(image * 10), 10);
    EXPECT_EQ(result[i]["logits"].get<std::vector<float>>(), std::vector<float>(row.begin(), row.end()));
    EXPECT_EQ(result[i]["probability"].get<double>(),
              runtime::probabilities(row)[static_cast<std::size_t>(prediction(image))]);
  }
  EXPECT_EQ(json("infer " + model_ + " --images " + images_path_).size(), 10U);
  EXPECT_EQ(json("infer " + model_ + " --first 4 --images " + images_path_).size(), 4U);
}

TEST_F(PareRun, InferPrintsAlignedLinesAndCountsWhatIsRight) {
  const Outcome outcome = run("infer " + model_ + " --first 6 --images " + images_path_ + " --labels " + labels_path_);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(outcome.out.ends_with("4 of 6 right\n")) << outcome.out;
  const std::size_t column = outcome.out.find("class");
  const std::vector<std::int64_t> images = {0, 1, 2, 3, 4, 5};
  std::size_t line = 0;
  for (const std::int64_t image : images) {
    line = outcome.out.find('\n', line) + 1;
    EXPECT_EQ(outcome.out.substr(line + column, 7), str_cat("class ", prediction(image))) << outcome.out;
  }
}

TEST_F(PareRun, InferReadsPgmAndRawImages) {
  const std::string pixels(images_.begin(), images_.begin() + 144);
  pare::testing::put_file(folder_ / "raw", pixels);
  pare::testing::put_file(folder_ / "pgm", "P5 # a comment\n12\n# another\n12 255\n" + pixels);
  for (const char* name : {"raw", "pgm"}) {
    const Json result = json("infer " + model_ + " --images " + (folder_ / name).string());
    ASSERT_EQ(result.size(), 1U) << name;
    EXPECT_EQ(result[0]["logits"].get<std::vector<float>>(), std::vector<float>(logits_.begin(), logits_.begin() + 10));
  }
  const auto refused = [&](const std::string& contents, const std::string& text) {
    pare::testing::put_file(folder_ / "bad", contents);
    expect_error("infer " + model_ + " --images " + (folder_ / "bad").string(), 1, text);
  };
  refused("P5 12 12 255\n" + pixels.substr(1), "143 bytes");
  refused("P5 12 13 255\n" + pixels, "[1, 13, 12]");
  refused("P5 12 12 65535\n" + pixels + pixels, "8 bits");
  refused("P5 12", "PGM header");
  refused("P5 -12 12 255\n", "PGM header");
  refused("P5 #", "PGM header");
  refused("P5 99999999999999999999 1 255\n", "PGM header");
  refused(std::string(), "bad");
}

TEST_F(PareRun, EvalMeasuresAccuracyAndConfusion) {
  const std::string arguments = "eval " + model_ + " --images " + images_path_ + " --labels " + labels_path_;
  const Json result = json(arguments);
  EXPECT_EQ(result["samples"], kCount);
  EXPECT_EQ(result["correct"], kCount / 3 * 2);
  EXPECT_DOUBLE_EQ(result["accuracy"].get<double>(), 100.0 * 20 / 30);
  std::vector<std::vector<std::int64_t>> confusion(10, std::vector<std::int64_t>(10, 0));
  for (std::int64_t i = 0; i < kCount; ++i) {
    ++confusion[labels_[static_cast<std::size_t>(i)]][static_cast<std::size_t>(prediction(i))];
  }
  EXPECT_EQ(result["confusion"].get<decltype(confusion)>(), confusion);
  EXPECT_EQ(json(arguments + " --first 3")["correct"], 2);
  const Outcome text = run(arguments);
  EXPECT_TRUE(text.out.starts_with("accuracy 66.67 %  (20 of 30 images right)\n")) << text.out;
}

TEST_F(PareRun, EvalFindsAKnownSetUnderPareData) {
  pare::testing::put_file(folder_ / "t10k-images-idx3-ubyte", idx({kCount, 12, 12}, images_));
  pare::testing::put_file(folder_ / "t10k-labels-idx1-ubyte", idx({kCount}, labels_));
  const Outcome outcome = run("eval " + model_ + " --set fashion-mnist --json", "PARE_DATA=" + folder_.path().string());
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(Json::parse(outcome.out)["correct"], 20);
}

TEST_F(PareRun, BenchTimesRoundsAndLayers) {
  const Json result = json("--threads 2 bench " + model_ + " --batch 3 --rounds 4 --profile");
  EXPECT_EQ(result["batch"], 3);
  EXPECT_EQ(result["threads"], 2);
  EXPECT_EQ(result["rounds"], 4);
  EXPECT_LE(result["seconds"]["min"].get<double>(), result["seconds"]["median"].get<double>());
  EXPECT_GE(result["images_per_second"]["max"].get<double>(), result["images_per_second"]["median"].get<double>());
  EXPECT_EQ(result["layers"].size(), artifact_.graph.nodes.size());
  EXPECT_EQ(result["layers"][0]["name"], "quantize_input");
  EXPECT_GT(result["peak_gops"].get<double>(), 0.0);
  for (const Json& layer : result["layers"]) {
    EXPECT_LE(layer["seconds"]["min"].get<double>(), layer["seconds"]["median"].get<double>());
    EXPECT_EQ(layer["macs"].get<double>() > 0.0, layer["share_of_peak"].get<double>() > 0.0) << layer["name"];
  }
  EXPECT_FALSE(json("bench " + model_ + " --batch 1 --rounds 1").contains("layers"));
  const Outcome text = run("bench " + model_ + " --rounds 2 --profile", "PARE_ISA=scalar");
  EXPECT_EQ(text.code, 0) << text.err;
  for (const char* word : {"images/s", "median", "conv2", "GOPS", "of peak", "GB/s", "instruction set scalar", "notes",
                           "scalar code gains nothing from the zeros"}) {
    EXPECT_NE(text.out.find(word), std::string::npos) << word << " in " << text.out;
  }
}

TEST_F(PareRun, BenchWritesAPageThatNeedsNothingElse) {
  const std::string page = (folder_ / "bench.html").string();
  const Outcome outcome = run("bench " + model_ + " --batch 2 --rounds 2 --html " + page);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const std::string html = pare::testing::get_file(page);
  EXPECT_TRUE(html.starts_with("<!doctype html>")) << html;
  EXPECT_TRUE(html.ends_with("</html>\n")) << html;
  for (const graph::Node& node : artifact_.graph.nodes) {
    EXPECT_NE(html.find("<td>" + node.name + "</td>"), std::string::npos) << node.name;
  }
  for (const char* foreign : {"<script", "http", "src=", "url("}) EXPECT_EQ(html.find(foreign), std::string::npos);
  expect_error("bench " + model_ + " --rounds 1 --html " + (folder_ / "no" / "where.html").string(), 1, "where.html");
}

TEST_F(PareRun, TuneKeepsItsAnswerBesideTheModel) {
  const std::string saved = model_ + ".tuned.json";
  EXPECT_EQ(json("--threads 1 tune " + model_ + " --batch 2 --rounds 2 --dry-run")["written"], "");
  EXPECT_FALSE(std::filesystem::exists(saved));
  const Json result = json("--threads 1 tune " + model_ + " --batch 2 --rounds 2");
  EXPECT_EQ(result["written"], saved);
  EXPECT_EQ(result["batch"], 2);
  const auto notes = [&](const std::string& arguments) { return json(arguments)["notes"].dump(); };
  EXPECT_NE(notes("--threads 1 bench " + model_ + " --batch 2 --rounds 1").find("formats as measured"),
            std::string::npos);
  EXPECT_NE(notes("--threads 1 inspect " + model_ + " --batch 2").find("formats as measured"), std::string::npos);
  EXPECT_NE(notes("--threads 1 inspect " + model_ + " --batch 3").find("batch 2 and 1 thread"), std::string::npos);
  const Outcome text = run("--threads 1 tune " + model_ + " --batch 3 --rounds 2");
  EXPECT_TRUE(text.out.ends_with("written: " + saved + "\n")) << text.out;
  EXPECT_EQ(run("verify " + model_).code, 0);
  pare::testing::put_file(saved, "{");
  const Outcome damaged = run("infer " + model_ + " --first 1 --images " + images_path_);
  EXPECT_EQ(damaged.code, 0);
  EXPECT_TRUE(damaged.err.starts_with("pare-run: warning: " + saved + " is not used: ")) << damaged.err;
}

TEST_F(PareRun, InspectShowsLayersAndSizes) {
  const Json result = json("inspect " + model_);
  EXPECT_EQ(result["bytes"], std::filesystem::file_size(model_));
  EXPECT_EQ(result["dense_fp32_bytes"], graph::dense_fp32_bytes(artifact_.graph));
  EXPECT_EQ(result["class_names"].size(), 10U);
  ASSERT_EQ(result["layers"].size(), artifact_.graph.nodes.size());
  std::size_t promise = 0;
  for (std::size_t i = 0; i < artifact_.graph.nodes.size(); ++i) {
    const graph::Node& node = artifact_.graph.nodes[i];
    const Json& layer = result["layers"][i];
    EXPECT_EQ(layer["name"], node.name);
    EXPECT_EQ(layer["op"], node.op_type);
    EXPECT_EQ(layer.contains("zeros"), node.has_weight());
    if (!node.has_weight()) continue;
    const graph::Initializer& weight = artifact_.graph.initializer(node.inputs[1]);
    EXPECT_EQ(layer["shape"].get<Shape>(), weight.shape);
    EXPECT_EQ(layer["pattern"], artifact_.promises[promise].pattern);
    EXPECT_EQ(layer["zeros"], artifact_.promises[promise].zeros);
    EXPECT_EQ(layer["bytes"], weight.stored_bytes() + static_cast<std::size_t>(8 * weight.shape[0]));
    EXPECT_NE(layer["kernel"], "");
    ++promise;
  }
  const Outcome text = run("inspect " + model_);
  for (const char* word : {"conv1", "2:4", "fc2", "class 9", "of the", "notes"}) {
    EXPECT_NE(text.out.find(word), std::string::npos) << word << " in " << text.out;
  }
}

TEST_F(PareRun, InspectTellsInt4FromInt8) {
  const std::string model = (folder_ / "dynamic.pare").string();
  const graph::Artifact artifact = graph::testing::dynamic_artifact(1);
  graph::write_artifact(model, artifact);
  const Json result = json("inspect " + model);
  const auto layer = [&](std::size_t index) -> const Json& { return result["layers"].at(index); };
  EXPECT_EQ(layer(0)["weight_bits"], 4);
  EXPECT_EQ(layer(0)["pattern"], "dense");
  // 150 rows: codes of 37, two scales; the bias.
  EXPECT_EQ(layer(0)["bytes"], 150 * (19 + 2 * 2) + 4 * 150);
  EXPECT_EQ(layer(1)["weight_bits"], 4);
  EXPECT_EQ(layer(1)["pattern"], "2:4");
  EXPECT_NE(layer(1)["note"].get<std::string>().find("gain"), std::string::npos);
  // 70 rows: codes and indices of 38 groups of four, three scales; no bias.
  EXPECT_EQ(layer(1)["bytes"], 70 * (38 + 19 + 2 * 3));
  EXPECT_EQ(layer(2)["weight_bits"], 8);
  EXPECT_EQ(layer(2)["op"], "DynamicQuantizeMatMul");
}

TEST_F(PareRun, VerifyReturnsFourAndNamesLayerAndPromise) {
  const Outcome good = run("verify " + model_);
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_NE(good.out.find("keeps all its promises"), std::string::npos);
  EXPECT_EQ(json("verify " + model_)["ok"], true);

  // A bit of fc1's weight; its bytes are looked for, because only the file's writer knows where they stand.
  std::string bytes = pare::testing::get_file(model_);
  const auto values = artifact_.graph.initializer("fc1.weight").data.as<char>();
  const std::size_t at = bytes.find(std::string(values.begin(), values.end()));
  ASSERT_NE(at, std::string::npos);
  bytes[at + 3] = static_cast<char>(bytes[at + 3] ^ 1);
  const std::string damaged = (folder_ / "damaged.pare").string();
  pare::testing::put_file(damaged, bytes);
  const Outcome bad = run("verify " + damaged);
  EXPECT_EQ(bad.code, 4);
  EXPECT_NE(bad.out.find("layer fc1: breaks 'checksum': "), std::string::npos) << bad.out;
  EXPECT_TRUE(bad.err.starts_with("pare-run: error: ")) << bad.err;
  const Json report = json("verify " + damaged, 4);
  EXPECT_EQ(report["ok"], false);
  EXPECT_FALSE(report["findings"].empty());
  expect_error("eval " + damaged + " --images " + images_path_ + " --labels " + labels_path_, 1, "damaged.pare");
}

}  // namespace
}  // namespace pare::cli
