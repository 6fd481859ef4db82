"""A comparison of the meta-upscale module with a sub-pixel layer, and with its literal formulation.

`python -m benchmarks.meta_upscale` runs on one thread of a CPU, with features of 64 channels and one output channel.
Time is processor time, which other programs disturb least. Memory is measured before, in separate processes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from math import prod
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks import machine
from benchmarks.memory import peak_resident_mb
from benchmarks.report import table
from medsr.networks import MetaUpscale, Query
from medsr.networks.blocks.upsamplers import PixelShuffle, quickest_layout
from tests.networks.oracles.meta_upscale import meta_upscale

FEATURES = 64
SLOWER, LARGER = 1.15, 1.25  # the most time and memory, relative to the sub-pixel layer at integer scales
LITERAL_SIZE = (40, 32)  # larger images take too much memory in the literal formulation


def ways(size: Sequence[int], scale: Fraction) -> dict[str, Callable[[], torch.Tensor]]:
    """Return the functions that are compared at a scale, on the same features."""
    torch.manual_seed(0)
    features, layer = torch.rand(1, FEATURES, *size), MetaUpscale(2, FEATURES, 1)
    runs: dict[str, Callable[[], torch.Tensor]] = {"ours": partial(layer, features, Query.whole(size, (scale,) * 2))}
    if scale.denominator == 1:
        r = scale.numerator
        subpixel = nn.Sequential(nn.Conv2d(FEATURES, r * r, 3, padding=1), PixelShuffle(2, r))
        runs["sub-pixel layer"] = lambda: subpixel(quickest_layout(features))
    if prod(size) <= prod(LITERAL_SIZE):
        runs["literal"] = partial(meta_upscale, layer, features, (scale,) * 2)
    return runs


def seconds(runs: dict[str, Callable[[], torch.Tensor]], repeats: int) -> dict[str, float]:
    """Return the median processor time (s) of each function; they run in turns, after one unmeasured round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            started = time.process_time()
            run()
            if repeat:
                times[name].append(time.process_time() - started)
    return {name: median(values) for name, values in times.items()}


def memory_mb(size: Sequence[int], scale: Fraction, way: str) -> float:
    """Return the peak memory above the features in MiB, measured in a fork of this process."""
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    process = context.Process(target=_put_peak, args=(answer, size, scale, way))
    process.start()
    process.join()
    return float(answer.get())


def _put_peak(answer: Any, size: Sequence[int], scale: Fraction, way: str) -> None:
    run = ways(size, scale)[way]
    before = peak_resident_mb()
    with torch.no_grad():
        run()
    answer.put(peak_resident_mb() - before)


def compare(size: Sequence[int], scale: Fraction, repeats: int, memory: dict[str, float]) -> list[dict[str, Any]]:
    """Return one row per function."""
    times = seconds(ways(size, scale), repeats)
    return [
        {
            "LR": "x".join(map(str, size)),
            "scale": str(scale),
            "way": name,
            "ms": 1e3 * times[name],
            "MiB above the features": memory[name],
            "ours / this, time": times["ours"] / times[name],
            "ours / this, memory": memory["ours"] / max(memory[name], 1e-3),
        }
        for name in times
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.meta_upscale", description=__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=[412, 332], help="size of the LR image (412 332)")
    parser.add_argument("--scales", type=Fraction, nargs="+", default=[Fraction(s) for s in ("2", "4", "2.5", "2.3")])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-literal", action="store_true", help="leave the literal version out")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cases = [(tuple(options.size), scale) for scale in options.scales]
    cases += [] if options.no_literal else [(LITERAL_SIZE, scale) for scale in options.scales]
    memory = [{way: memory_mb(*case, way) for way in ways(*case)} for case in cases]
    rows = []
    with torch.no_grad():
        for case, peaks in zip(cases, memory, strict=True):
            rows += compare(*case, options.repeats, peaks)
    missed = [row for row in rows if row["way"] == "sub-pixel layer" and row["LR"] == rows[0]["LR"]]
    missed = [r for r in missed if r["ours / this, time"] > SLOWER or r["ours / this, memory"] > LARGER]
    print({key: value for key, value in machine.describe(torch.device("cpu")).items() if key != "instructions"})
    print(table(rows))
    print(f"target against the sub-pixel layer (time {SLOWER}, memory {LARGER}): {'MISSED' if missed else 'met'}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
