#!/usr/bin/env python3
"""Single linear layers, uint8 in and uint8 out, or float32 in and out with int4 weights: pare's kernels against onnxruntime and
OpenVINO, taking turns in one process.

usage: linear_layers.py --build build/release [--out FILE] [--rounds N] [--clock cpu]
"""

import argparse
import ctypes
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import contestants
import round_robin
from end_to_end import Report

# m, n, k and layers: several layers with weights of their own stand for "weights in DRAM".
SHAPES = [(128, 768, 768, 1), (128, 3072, 768, 1), (128, 768, 3072, 1), (512, 4096, 4096, 1), (16, 3072, 3072, 1),
          (1, 4096, 4096, 8), (1, 11008, 4096, 4)]
GOALS = {"dense": None, "2:4": 1.42, "64:2:4": 1.85, "64:1:4": 3.5, "64:1:8": 6.3}
DRAM_GOALS = {"dense": None, "2:4": 1.50, "64:2:4": 1.85}
# Groups of 32 along k, activations quantized to int8 by the layer itself. Half the bytes a weight, so twice the layers.
INT4_SHAPES = [(1, 4096, 4096, 16), (1, 11008, 4096, 8)]
INT4_GOALS = {"int4 dense": 1.0, "int4 2:4": 1.25}
INT4_GROUP = 32
# Of a result's norm. Activations have 127 steps to the largest of 32 to 4096 normal numbers, about 4 deviations: an error of
# 4 / 127 / sqrt(12) of a deviation each, which adds up as the results do; three times that is a mistake.
INT4_TOLERANCE = 3 * 4 / 127 / 12**0.5
INPUT_SCALE, INPUT_ZERO, OUTPUT_SCALE, WEIGHT_SCALE = 0.02, 117, 0.05, 0.001


class OwnGemm:
    def __init__(self, library: ctypes.CDLL, shape: tuple[int, int, int, int], pattern: str):
        library.pare_bench_gemm_make.restype = ctypes.c_void_p
        library.pare_bench_gemm_make.argtypes = [ctypes.c_int64] * 4 + [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int64]
        text = ctypes.create_string_buffer(256)
        made = library.pare_bench_gemm_make(*shape, pattern.encode(), text, len(text))
        if not made:
            raise RuntimeError(text.value.decode())
        self.name = text.value.decode()
        self.handle = ctypes.c_void_p(made)
        self.run = library.pare_bench_gemm_run
        self.free = library.pare_bench_gemm_free

    def __call__(self) -> None:
        self.run(self.handle)

    def __del__(self):
        if hasattr(self, "handle"):
            self.free(self.handle)


def write_layer(path: Path, m: int, n: int, k: int, seed: int) -> np.ndarray:
    """DequantizeLinear, Gemm, QuantizeLinear, which both runtimes fuse into one integer product. Returns the codes that
    exact arithmetic gives for codes(m, k)."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-63, 64, (n, k), dtype=np.int8)
    bias = rng.integers(-20000, 20001, n, dtype=np.int32)
    scales = np.full(n, WEIGHT_SCALE, np.float32)
    tensors = {"input_scale": np.float32(INPUT_SCALE), "input_zero": np.uint8(INPUT_ZERO), "weights": weights,
               "weight_scales": scales, "weight_zeros": np.zeros(n, np.int8), "bias": bias,
               "bias_scales": scales * np.float32(INPUT_SCALE), "bias_zeros": np.zeros(n, np.int32),
               "output_scale": np.float32(OUTPUT_SCALE), "output_zero": np.uint8(0)}
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "input_scale", "input_zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["weights", "weight_scales", "weight_zeros"], ["w"], axis=0),
        helper.make_node("DequantizeLinear", ["bias", "bias_scales", "bias_zeros"], ["b"], axis=0),
        helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1),
        helper.make_node("QuantizeLinear", ["y", "output_scale", "output_zero"], ["out"]),
    ]
    graph = helper.make_graph(nodes, "layer", [helper.make_tensor_value_info("codes", TensorProto.UINT8, [m, k])],
                              [helper.make_tensor_value_info("out", TensorProto.UINT8, [m, n])],
                              [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    # Sums of products stay far below 2^53: exact.
    sums = (codes(m, k).astype(np.float64) - INPUT_ZERO) @ weights.T.astype(np.float64) + bias
    return np.clip(np.rint(sums * (INPUT_SCALE * WEIGHT_SCALE / OUTPUT_SCALE)), 0, 255)


def codes(m: int, k: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (m, k), dtype=np.uint8)


def write_int4_layer(path: Path, n: int, k: int, seed: int) -> np.ndarray:
    """MatMulNBits, which both runtimes run with int8 activations. Returns its weights."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 16, (n, k // INT4_GROUP, INT4_GROUP), dtype=np.uint8)
    scales = rng.uniform(0.0078, 0.0156, (n, k // INT4_GROUP)).astype(np.float16).astype(np.float32)
    tensors = {"weights": weights[..., ::2] | weights[..., 1::2] << 4, "scales": scales.reshape(-1)}
    node = helper.make_node("MatMulNBits", ["x", "weights", "scales"], ["y"], domain="com.microsoft", K=k, N=n, bits=4,
                            block_size=INT4_GROUP, accuracy_level=4)
    graph = helper.make_graph([node], "layer", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["m", k])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", n])],
                              [numpy_helper.from_array(value, name) for name, value in tensors.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)])
    model.ir_version = 8
    onnx.save(model, path)
    return ((weights.astype(np.float32) - 8) * scales[..., None]).reshape(n, k)


class Layers:
    """Several sessions one after the other."""

    def __init__(self, sessions: list):
        self.sessions = sessions

    def __call__(self) -> None:
        for session in self.sessions:
            session()


def make_peers(shape: tuple[int, int, int, int], folder: Path, report: Report) -> dict:
    m, n, k, layers = shape
    path = folder / f"layer_{m}x{n}x{k}.onnx"
    expected = write_layer(path, m, n, k, 5)
    peers = {}
    for name, kind in {"onnxruntime int8": contestants.OnnxRuntime, "OpenVINO int8": contestants.OpenVino}.items():
        work = f"GEMM {m}x{n}x{k} against {name}"
        try:
            sessions = [kind(path, codes(m, k)) for _ in range(layers)]
            sessions[0]()
            worst = np.max(np.abs(sessions[0].logits().astype(np.float64) - expected))
        except Exception as error:  # pylint: disable=broad-exception-caught -- a peer's failure is a result
            report.skip(work, " ".join(str(error).split())[:200])
            continue
        if worst > 1:
            report.skip(work, f"WRONG RESULT: differs by {worst:.0f} codes from exact arithmetic")
        else:
            peers[name] = Layers(sessions)
    path.unlink()
    return peers


def make_int4_peers(shape: tuple[int, int, int, int], folder: Path, report: Report) -> dict:
    m, n, k, layers = shape
    path = folder / f"int4_{n}x{k}.onnx"
    x = np.random.default_rng(1).standard_normal((m, k)).astype(np.float32)
    expected = x @ write_int4_layer(path, n, k, 5).T
    peers = {}
    for name, kind in {"onnxruntime int4": contestants.OnnxRuntime, "OpenVINO int4": contestants.OpenVino}.items():
        work = f"int4 GEMM {m}x{n}x{k} against {name}"
        try:
            sessions = [kind(path, x) for _ in range(layers)]
            sessions[0]()
            error = np.linalg.norm(sessions[0].logits() - expected) / np.linalg.norm(expected)
        except Exception as failure:  # pylint: disable=broad-exception-caught -- a peer's failure is a result
            report.skip(work, " ".join(str(failure).split())[:200])
            continue
        if error > INT4_TOLERANCE:
            report.skip(work, f"WRONG RESULT: differs by {error:.3f} of its norm from real arithmetic")
        else:
            peers[name] = Layers(sessions)
    path.unlink()
    return peers


def race_int4(library: ctypes.CDLL, shape: tuple[int, int, int, int], options: argparse.Namespace, report: Report) -> None:
    m, n, k, layers = shape
    name = f"{layers} layers {m}x{n}x{k}"
    racers = make_int4_peers(shape, options.models, report)
    peers = list(racers)
    if not peers:
        report.skip(f"int4 GEMM {name}", "no peer is installed")
        return
    own = {}
    for pattern in INT4_GOALS:
        gemm = OwnGemm(library, shape, pattern)
        own[pattern] = gemm.name
        racers[gemm.name] = gemm
    times = round_robin.race(racers, options.rounds, options.clock)
    median = {racer: sorted(seconds)[len(seconds) // 2] for racer, seconds in times.items()}
    for pattern, at_least in INT4_GOALS.items():
        dense = peers if pattern == "int4 dense" else [*peers, own["int4 dense"]]
        report.add(round_robin.row(f"{pattern} GEMM {name}, beside runtimes", own[pattern], min(dense, key=median.get), times,
                                   at_least))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    round_robin.add_options(parser)
    parser.add_argument("--out", type=Path, default=Path("build/bench/linear_layers.json"))
    parser.add_argument("--only-int4", action="store_true", help="leave out the layers of codes")
    options = parser.parse_args()
    options.models.mkdir(parents=True, exist_ok=True)
    round_robin.pin_to_one_core()
    library = ctypes.CDLL(str(options.build / "bin" / "libpare_bench_gemm.so"))
    report = Report()
    for shape in [] if options.only_int4 else SHAPES:
        m, n, k, layers = shape
        name = f"{m}x{n}x{k}" if layers == 1 else f"{layers} layers {m}x{n}x{k}"
        racers = make_peers(shape, options.models, report)
        peers = list(racers)
        goals = GOALS if layers == 1 else DRAM_GOALS
        own = {}
        for pattern in goals:
            gemm = OwnGemm(library, shape, pattern)
            own[pattern] = f"{gemm.name}, {pattern}"  # one V:N:M kernel has several patterns
            racers[own[pattern]] = gemm
        if not peers:
            report.skip(f"GEMM {name}", "no peer is installed")
            continue
        times = round_robin.race(racers, options.rounds, options.clock)
        median = {racer: sorted(seconds)[len(seconds) // 2] for racer, seconds in times.items()}
        for pattern, at_least in goals.items():
            dense = peers if pattern == "dense" else [*peers, own["dense"]]
            report.add(round_robin.row(f"{pattern} int8 GEMM {name}, beside runtimes", own[pattern],
                                       min(dense, key=median.get), times, at_least))
    for shape in INT4_SHAPES:
        race_int4(library, shape, options, report)
    report.write(options.out, {**contestants.versions(), "clock of layers and networks": options.clock})
    return int(any("WRONG RESULT" in entry["why"] for entry in report.skipped))


if __name__ == "__main__":
    sys.exit(main())
