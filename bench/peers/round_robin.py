"""Contestants that take turns in one process, as bench/round_robin.h does it."""

import argparse
import os
import resource
import statistics
import time
from pathlib import Path
from typing import Callable

# "wall", or "cpu" (of all threads of this process) on a machine that others use, too: it leaves out their time slices, but
# also what a runtime waits for threads of its own.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
VISIT_SECONDS = 0.003
MOST_REPEATS = 5


def pin_to_one_core() -> None:
    """The last core that the process may use; threads that are started later inherit it."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--build", type=Path, required=True, help="the folder of a build with PARE_BUILD_BENCH=ON")
    parser.add_argument("--models", type=Path, default=Path("build/bench/models"))
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--clock", choices=CLOCKS, default=os.environ.get("PARE_BENCH_CLOCK", "wall"))


def interruptions() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


def seconds_of_calls(run: Callable[[], object], calls: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(calls):
        run()
    return (clock() - start) / calls


def visit(run: Callable[[], object], calls: int, clock: Callable[[], float]) -> float:
    """A visit in which another process took the core is repeated, a few times."""
    for _ in range(MOST_REPEATS):
        run()
        before = interruptions()
        seconds = seconds_of_calls(run, calls, clock)
        if interruptions() == before:
            break
    return seconds


def race(contestants: dict[str, Callable[[], object]], rounds: int, clock_name: str = "wall") -> dict[str, list[float]]:
    """Seconds of a call, one entry a round. Every round starts one contestant further on."""
    clock = CLOCKS[clock_name]
    names = list(contestants)
    calls = {}
    for name, run in contestants.items():
        for _ in range(3):
            run()
        calls[name] = max(1, int(VISIT_SECONDS / min(seconds_of_calls(run, 1, clock) for _ in range(3))))
    times = {name: [] for name in names}
    for turn in range(rounds):
        for index in range(len(names)):
            name = names[(index + turn) % len(names)]
            times[name].append(visit(contestants[name], calls[name], clock))
    return times


def ratio(ours: list[float], against: list[float]) -> dict[str, float]:
    """How many times as fast ours is, round by round."""
    ratios = [theirs / mine for mine, theirs in zip(ours, against, strict=True)]
    return {"ratio_min": min(ratios), "ratio_median": statistics.median(ratios), "ratio_max": max(ratios)}


def row(work: str, ours: str, against: str, times: dict[str, list[float]], at_least: float | None) -> dict:
    result = {"work": work, "ours": ours, "against": against, **ratio(times[ours], times[against])}
    result["rounds"] = len(times[ours])
    result["at_least"] = at_least
    result["met"] = None if at_least is None else result["ratio_median"] >= at_least
    result["ours_us"] = 1e6 * statistics.median(times[ours])
    result["against_us"] = 1e6 * statistics.median(times[against])
    return result
