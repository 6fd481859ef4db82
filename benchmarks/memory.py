"""The peak memory of an enlargement, measured in a process of its own: `python -m benchmarks.memory SIZE ...`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

import torch

from medsr.inferers import SuperResolutionInferer
from medsr.networks import create
from medsr.runtime import keep_freed_memory

SCALE = 2


def peak_resident_mb() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def measure(size: int, memory_mb: int, features: int, depth: int, channels_last: bool) -> dict[str, Any]:
    """Return the memory in MiB, above that before the call, that making `size`^3 voxels takes."""
    network = create("ReCNN", features=features, depth=depth)
    options: dict[str, Any] = {"memory_mb": memory_mb, "channels_last": channels_last}
    lr = torch.rand(1, 1, *[size // SCALE] * 3)
    SuperResolutionInferer(SCALE, **options)(lr[..., :8, :8, :8], network)  # so that libraries load their code before
    before = peak_resident_mb()
    inferer = SuperResolutionInferer(SCALE, **options)
    result = inferer.enlarge(lr, network)
    above, output_mb = peak_resident_mb() - before, result.image.numel() * 4 / 2**20
    return {
        "output": f"{size}^3",
        "tiles": result.tiles,
        "memory_mb": memory_mb,
        "output MiB": output_mb,
        "peak MiB": above,
        "peak - output MiB": above - output_mb,
        "within memory_mb": above - output_mb <= memory_mb,
    }


def measure_apart(size: int, memory_mb: int, *options: str) -> list[dict[str, Any]]:
    """Run `measure` in new processes with as many threads as this one, with the default and the tuned allocator.

    Args:
        size: The number of voxels of the result along each axis.
        memory_mb: The memory limit of the inferer in MiB.
        options: The further options of the command line.
    """
    rows = []
    for allocator, option in (("as it comes", ()), ("keeps freed memory", ("--keep",))):
        command = [sys.executable, "-m", "benchmarks.memory", str(size), "--memory-mb", str(memory_mb)]
        command += ["--threads", str(torch.get_num_threads()), *options, *option]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        rows.append({"allocator": allocator, **json.loads(answer)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", type=int)
    parser.add_argument("--memory-mb", type=int, default=256)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--keep", action="store_true", help="let the allocator keep freed memory")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.keep:
        keep_freed_memory()
    result = measure(arguments.size, arguments.memory_mb, arguments.features, arguments.depth, arguments.channels_last)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
