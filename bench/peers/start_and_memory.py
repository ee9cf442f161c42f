#!/usr/bin/env python3
"""From process start to the first answer, and memory while running: pare-run and a Python program with onnxruntime.

usage: start_and_memory.py --build build/release [--out FILE] [--repeats N]      after end_to_end.py, which makes the models
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import contestants
import round_robin
from end_to_end import Report

COLD_START_MS = 10.0
MEMORY_MB = 4.0
PYTHON_ALONE = [sys.executable, "-c", "import numpy"]


def milliseconds(command: list[str]) -> float:
    """Wall time of a process that must succeed."""
    with open(os.devnull, "wb") as nowhere:
        actions = [(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 1)]
        start = time.perf_counter()
        process = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
        status = os.waitpid(process, 0)[1]
        seconds = time.perf_counter() - start
    if status != 0:
        sys.exit(f"start_and_memory: {' '.join(command)} failed")
    return 1e3 * seconds


def private_mb(command: list[str], seconds: float) -> float:
    """Memory of its own (no file's pages, so no code) of a process that has been running for so long."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        time.sleep(seconds)
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.kill()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def cold_start(pare_run: Path, artifact: Path, onnx: Path, folder: Path, repeats: int, report: Report) -> None:
    image = folder / "image.pgm"
    image.write_bytes(b"P5\n28 28\n255\n" + bytes(range(256)) * 3 + bytes(16))
    commands = {
        "pare": [str(pare_run), "infer", str(artifact), "--images", str(image), "--threads", "1"],
        "python": PYTHON_ALONE,
        "onnxruntime": [sys.executable, str(Path(__file__).with_name("first_answer.py")), str(onnx)],
    }
    times = {name: [] for name in commands}
    for name, command in commands.items():
        milliseconds(command)  # files into the page cache
    for _ in range(repeats):
        for name, command in commands.items():
            times[name].append(milliseconds(command))
    ours = statistics.median(times["pare"])
    beyond_python = [max(0.0, ort - python) for ort, python in zip(times["onnxruntime"], times["python"])]
    report.add({
        "work": "cold start: process start to first answer, convnet",
        "ours": f"pare-run infer, {ours:.1f} ms",
        "against": f"onnxruntime, {statistics.median(beyond_python):.0f} ms beyond Python's own start",
        **round_robin.ratio(times["pare"], beyond_python),
        "rounds": repeats,
        "at_least": None,
        "limit": f"at most {COLD_START_MS:.0f} ms",
        "met": ours <= COLD_START_MS,
        "ours_us": 1e3 * ours,
        "against_us": 1e3 * statistics.median(beyond_python),
    })


def memory(pare_run: Path, artifact: Path, onnx: Path, report: Report) -> None:
    described = subprocess.run([pare_run, "inspect", artifact, "--json"], capture_output=True, text=True, check=True)
    packed = sum(layer.get("packed_bytes", 0) for layer in json.loads(described.stdout)["layers"]) / 2**20
    batch = 16
    ours = private_mb([str(pare_run), "bench", str(artifact), "--batch", str(batch), "--rounds", "1000000", "--threads",
                       "1"], 1.0) - packed
    first_answer = str(Path(__file__).with_name("first_answer.py"))
    python = private_mb([sys.executable, "-c", "import numpy, time; time.sleep(9)"], 1.0)
    theirs = private_mb([sys.executable, first_answer, str(onnx), "9"], 2.0) - python - onnx.stat().st_size / 2**20
    report.add({
        "work": f"memory while running beyond weights and code, convnet batch {batch}",
        "ours": f"pare-run bench, {ours:.1f} MB",
        "against": f"onnxruntime, {theirs:.0f} MB beyond Python's",
        "ratio_min": theirs / ours,
        "ratio_median": theirs / ours,
        "ratio_max": theirs / ours,
        "rounds": 1,
        "at_least": None,
        "limit": f"at most {MEMORY_MB:.0f} MB",
        "met": ours <= MEMORY_MB,
    })


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/bench/start_and_memory.json"))
    parser.add_argument("--models", type=Path, default=Path("build/bench/models"))
    parser.add_argument("--repeats", type=int, default=25)
    options = parser.parse_args()
    folder = options.models / "convnet_2_4"
    report = Report()
    pare_run = options.build / "bin" / "pare-run"
    if not (folder / "model.pare").exists():
        report.skip("cold start and memory", f"end_to_end.py has not made {folder}")
    else:
        cold_start(pare_run, folder / "model.pare", folder / "int8_b1.onnx", folder, options.repeats, report)
        memory(pare_run, folder / "model.pare", folder / "int8_b16.onnx", report)
    report.write(options.out, contestants.versions())
    return 0


if __name__ == "__main__":
    sys.exit(main())
