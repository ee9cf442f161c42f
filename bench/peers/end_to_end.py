#!/usr/bin/env python3
"""Whole networks: pare at several patterns of zeros against the int8 runtimes, taking turns in one process.

usage: end_to_end.py --build build/release [--out FILE] [--networks convnet,…] [--batches 1,16] [--rounds N] [--clock cpu]
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

import contestants
import networks
import round_robin

# At least this many times as fast as the fastest dense int8 peer on the same network (the table of goals).
GOALS = {"dense": None, "2:4": 1.45, "64:2:4": 1.7, "64:1:4": 2.4}
# Largest difference of a logit, relative to the largest logit. On the same codes and scales only roundings differ, by one
# step here and there, which later layers carry on; NNCF chose scales of its own, and float32 has none.
SAME_SCALES = 0.05
OWN_SCALES = 0.25
# Least share of images on which two contestants choose the same class. Untrained networks have nearly equal logits, so
# a rounding may decide.
SAME_CLASS = 0.8


def disagreement(got: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference of a logit, relative to the largest logit."""
    return float(np.max(np.abs(got.reshape(expected.shape) - expected)) / np.max(np.abs(expected)))


def argmax_agreement(got: np.ndarray, expected: np.ndarray) -> float:
    """Of the classes; of a sequence, the strongest feature at each position."""
    return float(np.mean(np.argmax(got.reshape(expected.shape), -1) == np.argmax(expected, -1)))


def make_peers(files: networks.Files, batch: int, inputs: np.ndarray, report) -> dict:
    calibration = networks.calibration(files.image_shape(), batch)
    makers = {
        "onnxruntime int8": lambda: contestants.OnnxRuntime(files.int8_onnx(batch), inputs),
        "OpenVINO int8 (QDQ)": lambda: contestants.OpenVino(files.int8_onnx(batch), inputs),
        "OpenVINO int8 (NNCF)": lambda: contestants.OpenVino(
            contestants.quantized_by_nncf(files.float_onnx(batch), calibration), inputs),
    }
    peers = {}
    for name, make in makers.items():
        try:
            peers[name] = make()
        except ImportError as error:
            report.skip(f"{files.network} batch {batch} against {name}", f"not installed ({error.name})")
        except Exception as error:  # pylint: disable=broad-exception-caught -- a peer's failure is a result
            report.skip(f"{files.network} batch {batch} against {name}", " ".join(str(error).split())[:200])
    return peers


class Report:
    def __init__(self):
        self.rows: list[dict] = []
        self.skipped: list[dict] = []

    def skip(self, work: str, why: str) -> None:
        print(f"{work:<44} not measured: {why}", flush=True)
        self.skipped.append({"work": work, "why": why})

    def add(self, row: dict) -> None:
        goal = row.get("limit") or ("" if row["at_least"] is None else f">= {row['at_least']:.2f}")
        verdict = "" if row["met"] is None else "met" if row["met"] else "MISSED"
        print(f"{row['work']:<44} {row['ours']:<34} {row['against']:<54} {row['ratio_min']:6.2f} "
              f"{row['ratio_median']:6.2f}  {goal} {verdict}", flush=True)
        self.rows.append(row)

    def write(self, path: Path, context: dict) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"context": context, "rows": self.rows, "skipped": self.skipped}, indent=2) + "\n")
        print(path)


def check_answers(files: networks.Files, library: Path, report: Report) -> bool:
    """pare, onnxruntime, OpenVINO and the float network on images that nobody was calibrated with."""
    inputs = networks.inputs_of(files.image_shape(), 16 if files.is_sequence() else 64, 7)
    work = f"{files.pattern} {files.network}"
    networks.write_float_onnx(files, len(inputs))
    reference = contestants.OnnxRuntime(files.float_onnx(len(inputs)), inputs)
    reference()
    expected = reference.logits()
    ours = contestants.Pare(library, files.artifact, inputs).logits()
    answers = {"pare": ours}
    model = networks.onnx.load(files.int8_onnx(1))
    networks.set_batch(model, len(inputs))
    networks.onnx.save(model, files.int8_onnx(len(inputs)))
    for name, peer in make_peers(files, len(inputs), inputs, report).items():
        peer()
        answers[name] = np.array(peer.logits())
    good = True
    for name, logits in answers.items():
        to_float = disagreement(logits, expected)
        to_ours = disagreement(ours, logits)
        # Of a sequence's network the peers quantize what pare keeps in float32: results of products, shares of attention.
        bound = OWN_SCALES if "NNCF" in name or files.is_sequence() else SAME_SCALES
        same_class = argmax_agreement(ours, logits)
        print(f"  answers of {work}: {name:<22} differs from float32 by {to_float:.3f}, from pare by {to_ours:.3f} "
              f"(bound {bound}); same class as pare {100 * same_class:.0f} %", flush=True)
        good = good and to_ours <= bound and to_float <= OWN_SCALES and same_class >= SAME_CLASS
    if not good:
        report.skip(work, "WRONG RESULT: the contestants disagree")
    return good


def compare(files: dict[str, networks.Files], library: Path, batch: int, options: argparse.Namespace,
            report: Report) -> None:
    some = next(iter(files.values()))
    inputs = networks.inputs_of(some.image_shape(), batch, 3)
    # The zeros in the weights change no peer's speed (measured), so one copy of each stands for all.
    racers: dict = make_peers(files.get("dense", some), batch, inputs, report)
    peers = list(racers)
    for pattern, network_files in files.items():
        racers[f"pare {pattern}"] = contestants.Pare(library, network_files.artifact, inputs)
    if not peers:
        report.skip(f"{some.network} batch {batch}", "no peer is installed")
        return
    times = round_robin.race(racers, options.rounds, options.clock)
    fastest = min(peers, key=lambda name: sorted(times[name])[options.rounds // 2])
    for pattern in files:
        report.add(round_robin.row(f"{pattern} {some.network}, batch {batch}", f"pare {pattern}", fastest, times,
                                   GOALS[pattern]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    round_robin.add_options(parser)
    parser.add_argument("--out", type=Path, default=Path("build/bench/end_to_end.json"))
    parser.add_argument("--networks", default="convnet,small_cnn,resnet18,encoder")
    parser.add_argument("--patterns", default=",".join(GOALS))
    parser.add_argument("--batches", default="1,16")
    options = parser.parse_args()
    round_robin.pin_to_one_core()

    library = next(iter(sorted(options.build.glob("**/libpare_runtime_c.so"))), None)
    if library is None:
        sys.exit(f"end_to_end: no libpare_runtime_c.so under {options.build}")
    batches = [int(batch) for batch in options.batches.split(",")]
    report = Report()
    wrong = False
    for network in options.networks.split(","):
        files = {}
        for pattern in options.patterns.split(","):
            try:
                made = networks.make(options.build / "bin" / "bench_network", options.models, network, pattern, batches)
            except networks.Unsupported as error:
                report.skip(f"{pattern} {network}", str(error))
                continue
            if check_answers(made, library, report):
                files[pattern] = made
            else:
                wrong = True
        for batch in batches if files else []:
            compare(files, library, batch, options, report)
    report.skip("every network against DeepSparse", "the project has ended, and setup.sh does not install it")
    report.write(options.out, {**contestants.versions(), "clock of layers and networks": options.clock})
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
