#include "pare/runtime/tuning.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "pare/base/rng.h"
#include "pare/base/testing.h"
#include "pare/graph/testing/random_artifact.h"
#include "pare/runtime/testing/temporary_artifact.h"

namespace pare::runtime {
namespace {

using testing::TemporaryArtifact;

std::vector<float> logits_of(Session& session, std::int64_t count) {
  const std::vector<std::uint8_t> images = testing::random_images(5, count, session.input_elems());
  std::vector<float> logits(static_cast<std::size_t>(count * session.classes()));
  session.run(images, count, logits);
  return logits;
}

// Layers that are stored 2:4.
std::vector<std::string> sparse_layers(const Session& session) {
  std::vector<std::string> names;
  for (const PlannedLayer& layer : session.layers()) {
    if (layer.pattern == "2:4") names.push_back(layer.name);
  }
  return names;
}

// A measurement of `session`'s key in which these layers turn out faster in this form.
Tuning made_up(const std::filesystem::path& artifact, const SessionOptions& options,
               const std::vector<std::string>& layers, bool as_stored) {
  Tuning tuning{tuning_key(artifact, options), 7, {}};
  for (const std::string& name : layers) {
    tuning.layers.push_back({name, "2:4", 1e-3, as_stored ? 2e-3 : 5e-4, as_stored ? 2.0 : 0.5});
  }
  return tuning;
}

const PlannedLayer& layer_of(const Session& session, const std::string& name) {
  return *std::find_if(session.layers().begin(), session.layers().end(),
                       [&](const PlannedLayer& layer) { return layer.name == name; });
}

TEST(Tuning, ResultsAreTheSameWhateverIsChosen) {
  for (const graph::Artifact& artifact : {graph::testing::mlp_artifact(3, true), graph::testing::odd_artifact(3, true),
                                          graph::testing::residual_artifact(3, true)}) {
    const TemporaryArtifact file(artifact);
    Session by_table = Session::load(file.path(), {.threads = 1, .max_batch = 4});
    const std::vector<float> expected = logits_of(by_table, 6);
    const std::vector<std::string> layers = sparse_layers(by_table);
    ASSERT_FALSE(layers.empty());
    for (std::uint64_t mix = 0; mix < 4; ++mix) {  // all dense, all stored, and two in between
      SessionOptions options{.threads = 1, .max_batch = 4};
      for (std::size_t i = 0; i < layers.size(); ++i) options.as_stored[layers[i]] = (mix >> (i & 1) & 1) != 0;
      Session session = Session::load(file.path(), options);
      EXPECT_EQ(logits_of(session, 6), expected) << mix;
    }
    Session measured = Session::load(file.path(), {.threads = 2, .max_batch = 4, .formats = FormatSource::kMeasure});
    EXPECT_EQ(logits_of(measured, 6), expected);
  }
}

TEST(Tuning, AnUnknownLayerIsRefused) {
  const TemporaryArtifact file(graph::testing::mlp_artifact(4, true));
  EXPECT_PARE_ERROR(Session::load(file.path(), {.as_stored = {{"nowhere", true}}}), kInvalidArgument, "nowhere");
}

TEST(Tuning, MeasuresTheLayersThatHaveAChoiceAndOnlyThose) {
  const TemporaryArtifact file(graph::testing::mlp_artifact(5, true));
  const Session session = Session::load(file.path(), {.threads = 1, .max_batch = 3});
  const Tuning tuning = tune(file.path(), {.session = {.threads = 1, .max_batch = 3}, .rounds = 4});
  std::vector<std::string> names;
  for (const TunedLayer& layer : tuning.layers) {
    names.push_back(layer.name);
    EXPECT_EQ(layer.stored, "2:4");
    EXPECT_GT(layer.stored_seconds, 0.0);
    EXPECT_GT(layer.dense_seconds, 0.0);
  }
  EXPECT_EQ(names, session.isa() == Isa::kScalar ? std::vector<std::string>{} : sparse_layers(session));
  EXPECT_EQ(tuning.key, tuning_key(file.path(), {.threads = 1, .max_batch = 3}));
  EXPECT_FALSE(std::filesystem::exists(tuning_path(file.path()))) << "only save_tuning writes";
  EXPECT_PARE_ERROR(tune(file.path(), {.rounds = 0}), kInvalidArgument, "rounds");
  const TemporaryArtifact dense(graph::testing::mlp_artifact(5, false));
  EXPECT_TRUE(tune(dense.path(), {.session = {.threads = 1, .max_batch = 3}, .rounds = 1}).layers.empty());
}

TEST(Tuning, ASavedMeasurementDecidesForSessionsLikeIts) {
  const TemporaryArtifact file(graph::testing::mlp_artifact(6, true));
  const SessionOptions options{.threads = 1, .max_batch = 3};
  const Session by_table = Session::load(file.path(), options);
  if (by_table.isa() == Isa::kScalar) GTEST_SKIP() << "scalar code has no choice";
  EXPECT_TRUE(by_table.notes().empty());
  const std::vector<std::string> layers = sparse_layers(by_table);
  const SessionOptions other{.threads = 1, .max_batch = 5};
  save_tuning(file.path(), made_up(file.path(), other, layers, true));
  save_tuning(file.path(), made_up(file.path(), options, layers, true));
  save_tuning(file.path(), made_up(file.path(), options, layers, false));  // replaces the one before
  for (const bool as_stored : {false, true}) {
    const Session session = Session::load(file.path(), as_stored ? other : options);
    ASSERT_EQ(session.notes().size(), 1U);
    EXPECT_FALSE(session.notes()[0].is_warning);
    EXPECT_TRUE(session.notes()[0].text.starts_with("formats as measured, ")) << session.notes()[0].text;
    for (const std::string& name : layers) {
      const PlannedLayer& layer = layer_of(session, name);
      EXPECT_NE(layer.kernel.find(as_stored ? "_2x4_" : "_dense_"), std::string::npos) << layer.kernel;
      EXPECT_EQ(layer.note, as_stored ? "measured, 2:4 is 2 times as fast as dense"
                                      : "stored 2:4, run dense: measured, 2:4 is 0.5 times as fast as dense");
    }
  }
  const Session table = Session::load(file.path(), {.threads = 1, .max_batch = 3, .formats = FormatSource::kTable});
  EXPECT_TRUE(table.notes().empty());
  EXPECT_EQ(layer_of(table, layers[0]).kernel, layer_of(by_table, layers[0]).kernel);
}

TEST(Tuning, AMeasurementForAnythingElseIsIgnoredWithANote) {
  const TemporaryArtifact file(graph::testing::mlp_artifact(7, true));
  const SessionOptions options{.threads = 1, .max_batch = 3};
  const Tuning whole = made_up(file.path(), options, {"fc1"}, false);
  const auto note_of = [&](const Tuning& tuning) {
    std::filesystem::remove(tuning_path(file.path()));
    save_tuning(file.path(), tuning);
    const SavedTuning found = find_tuning(file.path(), whole.key);
    EXPECT_FALSE(found.tuning.has_value());
    EXPECT_TRUE(found.note.has_value() && !found.note->is_warning);
    return found.note.has_value() ? found.note->text : "";
  };
  Tuning other = whole;
  other.key.cpu = "abacus";
  EXPECT_NE(note_of(other).find("another processor, abacus"), std::string::npos);
  other = whole;
  other.key.isa = "quipu";
  EXPECT_NE(note_of(other).find("instruction set quipu"), std::string::npos);
  other = whole;
  other.key.pare_version = "9.9";
  EXPECT_NE(note_of(other).find("pare 9.9"), std::string::npos);
  other = whole;
  other.key.artifact ^= 1;
  EXPECT_NE(note_of(other).find("another artifact"), std::string::npos);
  other = whole;
  other.key.threads = 2;
  EXPECT_NE(note_of(other).find("batch 3 and 2 threads"), std::string::npos);
  other = whole;
  other.key.max_batch = 4;
  EXPECT_NE(note_of(other).find("batch 4 and 1 thread"), std::string::npos);

  save_tuning(file.path(), whole);
  const SavedTuning found = find_tuning(file.path(), whole.key);
  ASSERT_TRUE(found.tuning.has_value());
  EXPECT_EQ(found.tuning->key, whole.key);
  EXPECT_EQ(found.tuning->rounds, 7);
  ASSERT_EQ(found.tuning->layers.size(), 1U);
  EXPECT_EQ(found.tuning->layers[0].name, "fc1");
  EXPECT_EQ(found.tuning->layers[0].speed_up, 0.5);
}

// Cut short or changed in one byte: a note or, where that byte does not matter, the same choice; never anything else.
TEST(Tuning, ADamagedFileIsAWarningAndChangesNoResult) {
  const TemporaryArtifact file(graph::testing::mlp_artifact(8, true));
  const SessionOptions options{.threads = 1, .max_batch = 3};
  Session session = Session::load(file.path(), options);
  const std::vector<float> expected = logits_of(session, 4);
  save_tuning(file.path(), made_up(file.path(), options, sparse_layers(session), false));
  const std::filesystem::path path = tuning_path(file.path());
  const std::string whole = pare::testing::get_file(path);
  const std::uint64_t seed = 88;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  for (int i = 0; i < 300; ++i) {
    std::string damaged = whole;
    if (i % 3 == 0) {
      damaged.resize(rng.below(whole.size() - 2));
    } else {
      damaged[rng.below(whole.size())] = static_cast<char>(rng.below(256));
    }
    pare::testing::put_file(path, damaged);
    const SavedTuning found = find_tuning(file.path(), tuning_key(file.path(), options));
    ASSERT_TRUE(found.note.has_value()) << damaged;
    if (i % 3 == 0) {
      EXPECT_TRUE(found.note->is_warning) << damaged;
    }
    if (i % 10 != 0) continue;
    Session other = Session::load(file.path(), options);
    EXPECT_EQ(logits_of(other, 4), expected);
  }
  for (const char* text : {"", "[]", "{}", "null", "{\"format\": \"pare-tuned\"}", "[[[[[[[[[[",
                           "{\"format\": \"pare-tuned\", \"format_version\": 2, \"entries\": []}"}) {
    pare::testing::put_file(path, text);
    const SavedTuning found = find_tuning(file.path(), tuning_key(file.path(), options));
    ASSERT_TRUE(found.note.has_value() && found.note->is_warning) << text;
    EXPECT_NE(found.note->text.find(path.string()), std::string::npos);
  }
  std::string huge = whole;
  huge.replace(huge.find("\"speed_up\": 0.5"), 15, "\"speed_up\": 1e99");
  pare::testing::put_file(path, huge);
  EXPECT_TRUE(find_tuning(file.path(), tuning_key(file.path(), options)).note->is_warning);
  // What cannot be read is replaced.
  save_tuning(file.path(), made_up(file.path(), options, {}, true));
  EXPECT_TRUE(find_tuning(file.path(), tuning_key(file.path(), options)).tuning.has_value());
}

}  // namespace
}  // namespace pare::runtime
