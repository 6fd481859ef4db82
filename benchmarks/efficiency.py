"""The cost of networks for one slice, as in Zhu 2022, section 5.4.2; `python -m benchmarks.efficiency --help`.

Parameters, multiply-adds and frames per second at 40 x 32 -> 160 x 128 pixels, the networks timed in turns.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from benchmarks import machine
from benchmarks.measure import in_turns
from medsr.networks import create
from medsr.networks.complexity import count_parameters, multiply_adds
from medsr.networks.registry import small
from medsr.runtime import choose_device, keep_freed_memory

SIZE = (40, 32)  # the size of OASIS slices reduced by four
# The dissertation's tables 5.1 and 5.5, in its order.
COMPARED = (
    *("srresnet-zhu2022", "edsr-lite-zhu2022", "edsr", "rdn-zhu2022", "rcan", "han-zhu2022", "convnet-lite-zhu2022"),
    *("convnet-large-zhu2022", "swinir-lite-zhu2022", "swinir-zhu2022", "rdst-e", "rdst", "rdst-gff"),
)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.efficiency", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", default=list(COMPARED), help="presets (those of the tables)"
    )
    parser.add_argument("--scale", type=int, default=4, help="scale of the networks (4)")
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar="N", help="LR pixels (40 32)")
    parser.add_argument("--repeats", type=int, default=5, help="measured runs of every network (5)")
    parser.add_argument("--threads", type=int, help="threads of the CPU (torch's default)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or auto")
    parser.add_argument("--small", action="store_true", help="small networks: a smoke test, the figures mean nothing")
    parser.add_argument("--json", type=Path, help="write the figures, unrounded")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return one row per network."""
    device = choose_device(options.device)
    build = small if options.small else create
    networks = {name: build(name, scale=options.scale).eval().to(device) for name in options.names}
    x = torch.rand(1, 1, *options.size, device=device)
    with torch.no_grad():
        seconds = in_turns({name: partial(network, x) for name, network in networks.items()}, options.repeats, device)
    return [
        {
            "network": name,
            "parameters": count_parameters(network),
            "multiply_adds": multiply_adds(network, options.size),
            "frames_per_second": 1 / seconds[name]["median"],
        }
        for name, network in networks.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    keep_freed_memory()
    rows = measure(options)
    about = machine.describe(choose_device(options.device))
    lr, sr = ("x".join(str(n * s) for n in options.size) for s in (1, options.scale))
    table = [
        [r["network"], f"{r['parameters']:,}", f"{r['multiply_adds'] / 1e9:.2f}", f"{r['frames_per_second']:.2f}"]
        for r in rows
    ]
    print(tabulate(table, ["network", "parameters", "multiply-adds (G)", "frames/s"], "github", disable_numparse=True))
    print(f"\n{lr} -> {sr}, batch 1, float32, {about['processor']}, {about['threads']} thread(s)")
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "networks": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
