"""Contestants that take turns in one process, as bench/round_robin.h does it."""

import os
import resource
import statistics
import time
from typing import Callable

VISIT_SECONDS = 0.003
MOST_REPEATS = 5


def pin_to_one_core() -> None:
    """The last core that the process may use; threads that are started later inherit it."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def interruptions() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


def seconds_of_calls(run: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def visit(run: Callable[[], object], calls: int) -> float:
    """A visit in which another process took the core is repeated, a few times."""
    for _ in range(MOST_REPEATS):
        run()
        before = interruptions()
        seconds = seconds_of_calls(run, calls)
        if interruptions() == before:
            break
    return seconds


def race(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of a call, one entry a round. Every round starts one contestant further on."""
    names = list(contestants)
    calls = {}
    for name, run in contestants.items():
        for _ in range(3):
            run()
        calls[name] = max(1, int(VISIT_SECONDS / min(seconds_of_calls(run, 1) for _ in range(3))))
    times = {name: [] for name in names}
    for turn in range(rounds):
        for index in range(len(names)):
            name = names[(index + turn) % len(names)]
            times[name].append(visit(contestants[name], calls[name]))
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
