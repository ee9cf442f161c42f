#include "pare/runtime/tuning.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "pare/base/cpu.h"
#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"
#include "pare/base/threads.h"
#include "pare/runtime/measure.h"

namespace pare::runtime {

namespace {

// A session that runs every layer in one form, and what it took by layer and round.
struct Form {
  Session session;
  std::vector<Seconds> times;
};

Form load_form(const std::filesystem::path& artifact, SessionOptions options, bool as_stored,
               const std::vector<PlannedLayer>& layers) {
  options.formats = FormatSource::kTable;
  for (const PlannedLayer& layer : layers) options.as_stored[layer.name] = as_stored;
  Form form{Session::load(artifact, options), {}};
  form.times.resize(form.session.layers().size());
  return form;
}

}  // namespace

TuningKey tuning_key(const std::filesystem::path& artifact, const SessionOptions& options) {
  const MappedFile file(artifact);
  TuningKey key;
  key.cpu = cpu_name();
  key.isa = std::string(to_string(chosen_isa()));
  key.pare_version = PARE_VERSION;
  PARE_CHECK(file.bytes().size() > sizeof key.artifact);
  std::memcpy(&key.artifact, file.bytes().last(sizeof key.artifact).data(), sizeof key.artifact);
  key.threads =
      options.pool != nullptr ? options.pool->threads() : (options.threads == 0 ? available_cores() : options.threads);
  key.max_batch = options.max_batch;
  return key;
}

Tuning tune(const std::filesystem::path& artifact, const TuneOptions& options) {
  if (options.rounds < 1 || options.rounds > 1000000) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat(options.rounds, " is outside 1 to 1000000"), "rounds");
  }
  SessionOptions session = options.session;
  // One pool for both: the threads of another would wait for work in loops, on the same cores.
  if (session.pool == nullptr) session.pool = std::make_shared<ThreadPool>(session.threads);
  session.formats = FormatSource::kTable;
  session.as_stored.clear();
  const std::vector<PlannedLayer> layers = Session::load(artifact, session).layers();
  Form forms[] = {load_form(artifact, session, true, layers), load_form(artifact, session, false, layers)};

  const std::int64_t batch = session.max_batch;
  const RandomInput input(forms[0].session, options.seed, batch);
  std::vector<float> logits(static_cast<std::size_t>(batch * forms[0].session.classes()));
  for (std::int64_t round = -1; round < options.rounds; ++round) {
    // The first of a pair finds other things in the cache than the second, so they change places.
    for (const std::int64_t which : {round & 1, (round & 1) ^ 1}) {
      Form& form = forms[which];
      form.session.enable_profile(true);
      input.run(form.session, logits);
      if (round < 0) continue;
      const std::vector<LayerTime> times = form.session.profile();
      for (std::size_t i = 0; i < times.size(); ++i) form.times[i].of_round.push_back(times[i].seconds);
    }
  }

  Tuning tuning;
  tuning.key = tuning_key(artifact, session);
  tuning.rounds = options.rounds;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const PlannedLayer& stored = forms[0].session.layers()[i];
    if (stored.kernel == forms[1].session.layers()[i].kernel) continue;  // no choice
    TunedLayer layer;
    layer.name = stored.name;
    layer.stored = stored.pattern;
    layer.stored_seconds = forms[0].times[i].median();
    layer.dense_seconds = forms[1].times[i].median();
    Seconds ratios;
    for (std::size_t round = 0; round < forms[0].times[i].of_round.size(); ++round) {
      ratios.of_round.push_back(forms[1].times[i].of_round[round] / std::max(forms[0].times[i].of_round[round], 1e-9));
    }
    layer.speed_up = ratios.median();
    tuning.layers.push_back(std::move(layer));
  }
  return tuning;
}

}  // namespace pare::runtime
