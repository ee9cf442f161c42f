// pare-run: executes .pare files. No LibTorch, no Python.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <functional>
#include <new>
#include <string>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/cli/pare_run_commands.h"

namespace pare::cli {

namespace {

constexpr const char* kFooter =
    "Examples:\n"
    "  pare-run eval runs/fashion_mnist/model.pare --set fashion-mnist\n"
    "  pare-run infer model.pare --images t10k-images-idx3-ubyte.gz --labels t10k-labels-idx1-ubyte.gz --first 5\n"
    "  pare-run bench model.pare --batch 1 --threads 1 --profile\n"
    "\n"
    "Exit codes: 0 done, 1 user or file error, 2 usage, 4 verification failed.\n"
    "Environment: PARE_ISA forces an instruction set (scalar, avx2, …), PARE_DATA is where data sets are looked for.";

int exit_code_of(ErrorCategory category) {
  switch (category) {
    case ErrorCategory::kUsage:
      return kExitUsage;
    case ErrorCategory::kVerification:
      return kExitVerification;
    default:
      return kExitError;
  }
}

void print_error(const std::string& message) { std::fprintf(stderr, "pare-run: error: %s\n", message.c_str()); }

class Program {
 public:
  Program() {
    app_.footer(kFooter);
    app_.set_version_flag("--version", "pare-run " PARE_VERSION);
    app_.set_help_flag("-h,--help", "Print this help and exit");
    app_.fallthrough();  // --threads may stand behind the subcommand, too
    app_.add_option("--threads", run_.threads, "Threads; 0 is one per core")
        ->check(CLI::Range(0, 1024))
        ->capture_default_str()
        ->type_name("N");
    add_infer();
    add_eval();
    add_bench();
    add_tune();
    add_inspect();
    add_with_model("verify", "Re-derive every promise of the file from its bytes; exit code 4 if one is broken",
                   [this] { return run_verify(run_); });
  }

  int main(int argc, char** argv) {
    try {
      app_.parse(argc, argv);
    } catch (const CLI::Success& done) {  // --help, --version
      return app_.exit(done);
    } catch (const CLI::ParseError& error) {
      print_error(explain(error));
      return kExitUsage;
    }
    if (!command_) {
      print_error("a subcommand is missing; " + did_you_mean("", subcommand_names()) + " (see pare-run --help)");
      return kExitUsage;
    }
    return command_();
  }

 private:
  CLI::App* add_with_model(const std::string& name, const std::string& description, std::function<int()> command) {
    CLI::App* sub = app_.add_subcommand(name, description);
    sub->set_help_flag("-h,--help", "Print this help and exit");
    sub->add_option("model", run_.model, "The .pare file")->required()->type_name("MODEL");
    sub->add_flag("--json", run_.json, "Print JSON instead of text");
    sub->callback([this, command = std::move(command)] { command_ = command; });
    return sub;
  }

  void add_infer() {
    CLI::App* sub = add_with_model("infer", "Classify images", [this] { return run_infer(run_, infer_); });
    sub->add_option("--images", infer_.images, "IDX(.gz) file, 8-bit PGM (P5), or the raw bytes of one image")
        ->required()
        ->type_name("FILE");
    sub->add_option("--labels", infer_.labels, "IDX(.gz) file with the true classes")->type_name("FILE");
    CLI::Option* first = sub->add_option("--first", infer_.first, "The first N images (default: 10)")
                             ->check(CLI::PositiveNumber)
                             ->type_name("N");
    sub->add_option("--index", infer_.index, "Only these images, counted from 0: 3,17")
        ->delimiter(',')
        ->excludes(first)
        ->type_name("I,J,…");
  }

  void add_eval() {
    CLI::App* sub = add_with_model("eval", "Measure accuracy, with a confusion matrix", [this] {
      if (eval_.set.empty() && (eval_.images.empty() || eval_.labels.empty())) {
        throw Error(ErrorCategory::kUsage, "there is nothing to evaluate on", "eval",
                    "give --set NAME, or --images FILE and --labels FILE");
      }
      return run_eval(run_, eval_);
    });
    CLI::Option* images = sub->add_option("--images", eval_.images, "IDX(.gz) file with images")->type_name("FILE");
    CLI::Option* labels =
        sub->add_option("--labels", eval_.labels, "IDX(.gz) file with their classes")->type_name("FILE");
    sub->add_option("--set", eval_.set, "The test images of a known set: fashion-mnist")
        ->excludes(images)
        ->excludes(labels)
        ->type_name("NAME");
    sub->add_option("--first", eval_.first, "Only the first N images")->check(CLI::PositiveNumber)->type_name("N");
  }

  void add_bench() {
    CLI::App* sub =
        add_with_model("bench", "Measure time on random images", [this] { return run_bench(run_, bench_); });
    sub->add_option("--batch", bench_.batch, "Images a run")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str()
        ->type_name("N");
    sub->add_option("--rounds", bench_.rounds, "Timed runs")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str()
        ->type_name("N");
    sub->add_flag("--profile", bench_.profile, "Time every layer too: share of peak, bytes, the kernel and why");
    sub->add_option("--html", bench_.html, "Write the same as a page for a browser")->type_name("FILE");
  }

  void add_tune() {
    CLI::App* sub = add_with_model("tune", "Measure which form of each layer is faster here, and keep the answer",
                                   [this] { return run_tune(run_, tune_); });
    sub->add_option("--batch", tune_.batch,
                    "Images a run: bench's is 64 too unless told otherwise, infer and eval run up to 256")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str()
        ->type_name("N");
    sub->add_option("--rounds", tune_.rounds, "Timed runs of either form")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str()
        ->type_name("N");
    sub->add_flag("--dry-run", tune_.dry_run, "Write nothing beside the model");
  }

  void add_inspect() {
    CLI::App* sub = add_with_model("inspect", "Show the graph, its layers, sizes and the kernels that were chosen",
                                   [this] { return run_inspect(run_, inspect_); });
    sub->add_option("--batch", inspect_.batch, "Images a run that kernels are chosen for")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str()
        ->type_name("N");
  }

  [[nodiscard]] std::vector<std::string> subcommand_names() const {
    std::vector<std::string> names;
    for (const CLI::App* sub : app_.get_subcommands([](const CLI::App*) { return true; }))
      names.push_back(sub->get_name());
    return names;
  }

  // The first argument that nothing took, with what it may have been meant to be.
  [[nodiscard]] std::string explain(const CLI::ParseError& error) const {
    const std::vector<std::string> left_over = app_.remaining(true);
    const bool is_extra = dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr;
    const std::vector<CLI::App*> chosen = app_.get_subcommands();
    if (!is_extra || left_over.empty()) return str_cat(error.what(), " (see pare-run --help)");
    const std::string& word = left_over.front();
    if (chosen.empty() && !word.starts_with("-")) {
      return str_cat("no subcommand '", word, "'; ", did_you_mean(word, subcommand_names()));
    }
    std::vector<std::string> options;
    for (const CLI::App* app : chosen) {
      for (const CLI::Option* option : app->get_options()) {
        if (!option->get_lnames().empty()) options.push_back("--" + option->get_lnames().front());
      }
    }
    options.emplace_back("--threads");
    const std::string where = chosen.empty() ? "pare-run" : "pare-run " + chosen.front()->get_name();
    return str_cat(where, ": ", word.starts_with("-") ? "no option '" : "nothing takes the argument '", word, "'",
                   word.starts_with("-") ? "; " + did_you_mean(word, options) : str_cat(" (see ", where, " --help)"));
  }

  CLI::App app_{"Runs networks that pare has made: classifies images, measures accuracy and speed, shows and verifies.",
                "pare-run"};
  RunOptions run_;
  InferOptions infer_;
  EvalOptions eval_;
  BenchOptions bench_;
  TuneOptions tune_;
  InspectOptions inspect_;
  std::function<int()> command_;
};

}  // namespace

runtime::Session load_session(const RunOptions& run, std::int64_t max_batch) {
  runtime::Session session = runtime::Session::load(run.model, {.threads = run.threads, .max_batch = max_batch});
  for (const runtime::SessionNote& note : session.notes()) {
    if (note.is_warning) std::fprintf(stderr, "pare-run: warning: %s\n", note.text.c_str());
  }
  return session;
}

}  // namespace pare::cli

int main(int argc, char** argv) {
  try {
    return pare::cli::Program().main(argc, argv);
  } catch (const pare::Error& error) {
    pare::cli::print_error(error.what());
    return pare::cli::exit_code_of(error.category());
  } catch (const std::bad_alloc&) {
    pare::cli::print_error("not enough memory; take a smaller batch or fewer images");
  } catch (const std::exception& error) {
    pare::cli::print_error(error.what());
  }
  return pare::cli::kExitError;
}
