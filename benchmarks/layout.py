"""The memory layout and the allocator: `python -m benchmarks.layout` measures one setting in one process.

The allocator cannot be set back, so each setting has processes of its own, which take turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from statistics import median
from typing import Any

import torch

from benchmarks.measure import in_turns
from medsr.inferers import SuperResolutionInferer
from medsr.networks import create
from medsr.runtime import keep_freed_memory

SCALE = 2
ALLOCATORS = ("as it comes", "keeps freed memory")
LAYOUTS = ("contiguous", "channels last")


def measure(features: int, size: int, repeats: int) -> dict[str, float]:
    """Return the seconds that the inferer takes for `size`^3 voxels in each layout, in this process."""
    lr = torch.rand(1, 1, *[size // SCALE] * 3)
    runs = {}
    for layout in LAYOUTS:
        network = create("recnn-10l", features=features)
        inferer = SuperResolutionInferer(SCALE, memory_mb=2**16, channels_last=layout == "channels last")
        runs[layout] = lambda inferer=inferer, network=network: inferer(lr, network)
    return {name: times["median"] for name, times in in_turns(runs, repeats, torch.device("cpu")).items()}


def compare(features: int, size: int, repeats: int) -> list[dict[str, Any]]:
    """Return the rows of all combinations; processes with and without the tuned allocator take turns."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeats):
        for allocator in ALLOCATORS:
            command = [sys.executable, "-m", "benchmarks.layout", "--features", str(features), "--size", str(size)]
            command += ["--threads", str(torch.get_num_threads())]
            command += ["--keep"] if allocator != ALLOCATORS[0] else []
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            for layout, time in json.loads(answer).items():
                seconds.setdefault((allocator, layout), []).append(time)
    slowest = max(median(times) for times in seconds.values())
    return [
        {
            "network": f"10L-ReCNN, {features} features",
            "allocator": allocator,
            "layout": layout,
            "seconds": median(times),
            "times faster": slowest / median(times),
        }
        for (allocator, layout), times in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.keep:
        keep_freed_memory()
    print(json.dumps(measure(arguments.features, arguments.size, arguments.repeats)))


if __name__ == "__main__":
    main()
