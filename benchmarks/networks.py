"""The parity and the speed of all networks; `python -m benchmarks.networks --help`.

The result is Markdown for the documentation, beside the table that `medsr networks --format markdown` writes. Every
row is green, or says why it is not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import nn

from benchmarks import machine, parity
from benchmarks.measure import in_turns
from medsr.errors import MedsrError
from medsr.inferers import ForwardInferer
from medsr.networks import PRESETS, create
from medsr.networks.descriptions import choose, describe, reference_size
from medsr.networks.registry import small
from medsr.runtime import choose_device
from tests.networks.oracles import FORMULATIONS

SLOWER = 1.1  # the most time relative to the plain formulation, which allows for the noise of the clock
FASTER = {"SwinIR": 1.3, "RDST": 1.3}  # the least plain / ours for networks that fused attention should speed up
EXACT = 1e-5  # the largest difference from published outputs, relative to outputs of about 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these presets or classes")
    parser.add_argument("--parity", type=Path, metavar="DIR", help="folder of published state dicts and outputs")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="batch sizes that are timed (1 8)")
    parser.add_argument("--repeats", type=int, default=5, help="measured runs of everything; 0 leaves time out (5)")
    parser.add_argument("--threads", type=int, help="threads of the CPU (torch's default)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or auto")
    parser.add_argument("--small", action="store_true", help="small networks: a smoke test, the figures mean nothing")
    parser.add_argument("--output", type=Path, help="Markdown to write, such as docs/networks_measured.md (printed)")
    parser.add_argument("--json", type=Path, help="the same, unrounded")
    return parser.parse_args(arguments)


def published_errors(folder: Path | None) -> dict[str, dict[str, float]]:
    """Return, by network and by file of published outputs, the largest difference from them."""
    errors: dict[str, dict[str, float]] = {}
    for stem, case in parity.CASES.items():
        if folder is not None and (folder / f"{stem}.pt").is_file():
            errors.setdefault(case.network, {})[stem] = parity.error(folder, stem)
    return errors


def plain_error(name: str) -> float | None:
    """Return the largest relative difference of a small random network from its plain formulation; None without one."""
    plain = FORMULATIONS.get(PRESETS[name].network.__name__)
    if plain is None:
        return None
    torch.manual_seed(0)
    network = small(name).eval()
    for parameter in network.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.03)
    spec: Any = network.spec
    size = [19, 13, 9][: spec.spatial_dims] if spec.input_sizes is None else [spec.input_sizes[0]] * spec.spatial_dims
    x = torch.rand(2, spec.in_channels, *size)
    with torch.no_grad():
        ours, theirs = network(x), plain(network)(x)
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1)).item()


def ways(name: str, network: nn.Module, device: torch.device) -> dict[str, Callable[[torch.Tensor], Any]]:
    """Return the ways to run a network: as it is and plainly; on a GPU also with autocast and compiled."""
    runs: dict[str, Callable[[torch.Tensor], Any]] = {"ours": network}
    last = create(name).eval().to(device) if device.type == "cuda" else network
    if device.type == "cuda":
        last.to(memory_format=torch.channels_last)
        autocast, compiled = ForwardInferer("bfloat16"), torch.compile(last)
        runs["bfloat16"] = lambda x: autocast(x, last)
        runs["bfloat16, compiled"] = lambda x: autocast(x, compiled)
    plain = FORMULATIONS.get(type(network).__name__)
    if plain is not None:
        runs["plain"] = plain(network)
    return runs


def times(name: str, options: argparse.Namespace, device: torch.device) -> dict[str, dict[str, float]]:
    """Return the median milliseconds by batch size and way."""
    torch.manual_seed(0)
    network = (small if options.small else create)(name).eval().to(device)
    spec: Any = network.spec
    size = [16] * spec.spatial_dims if options.small and not spec.input_sizes else reference_size(spec)
    if options.small and spec.input_sizes:
        size = [spec.input_sizes[0]] * spec.spatial_dims
    result = {}
    for batch in options.batches if spec.spatial_dims == 2 else options.batches[:1]:
        x = torch.rand(batch, spec.in_channels, *size, device=device)
        runs = {way: partial(run, x) for way, run in ways(name, network, device).items()}
        with torch.no_grad():
            seconds = in_turns(runs, options.repeats, device)
        result[str(batch)] = {way: 1e3 * value["median"] for way, value in seconds.items()}
    return result


def verdict(row: dict[str, Any]) -> str:
    """Return "green", or what is wrong."""
    problems = []
    if row["parity"] and max(row["parity"].values()) > EXACT:
        problems.append("differs from published outputs")
    if row["plain error"] is not None and row["plain error"] > EXACT:
        problems.append("differs from its plain formulation")
    for batch, ways_ in row["ms"].items():
        if "plain" in ways_ and ways_["ours"] > SLOWER * ways_["plain"]:
            problems.append(f"slower than plain at batch {batch}")
        elif "plain" in ways_ and ways_["plain"] < FASTER.get(row.get("class", ""), 0) * ways_["ours"]:
            problems.append(f"under the target of {FASTER[row['class']]} times plain at batch {batch}")
    return "; ".join(problems) or "green"


def measure(name: str, options: argparse.Namespace, errors: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Return all facts and measurements of one preset."""
    network = PRESETS[name].network.__name__
    row = {**describe(name), "parity": {**errors.get(network, {}), **errors.get(name, {})}}
    row["plain error"] = plain_error(name)
    row["ms"] = times(name, options, choose_device(options.device)) if options.repeats else {}
    return {**row, "verdict": verdict(row)}


def markdown(rows: list[dict[str, Any]], command: str, about: dict[str, Any]) -> str:
    """Return the document."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return "\n".join(
        [
            "# Networks, measured",
            "",
            f"This page was written by `{command}` on",
            f"{about['date']}; do not edit it. The measured networks are those of",
            "[networks.md](networks.md), with the inputs that are named there.",
            "",
            f"{about['processor']}, {about['threads']} thread(s), float32; {versions}. The plain formulation is",
            "the same network with the same weights, written down literally and timed alternately with medsr's in one",
            "process.",
            "",
            tabulate(
                [measurements(row) for row in rows],
                headers="keys",
                tablefmt="github",
                disable_numparse=True,
                missingval="-",
            ),
            "",
        ]
    )


def measurements(row: dict[str, Any]) -> dict[str, str]:
    """Return a row of the document."""
    times = row["ms"].items()
    return {
        "network": row["name"],
        "published outputs, max difference": ", ".join(f"{e:.0e} ({f})" for f, e in row["parity"].items()) or "-",
        "plain formulation": "-" if row["plain error"] is None else f"{row['plain error']:.0e}",
        **{f"batch {b} (ms)": f"{w['ours']:.1f}" for b, w in times},
        **{f"plain / ours, batch {b}": f"{w['plain'] / w['ours']:.2f}" for b, w in times if "plain" in w},
        **{
            f"{way}, batch {b} (ms)": f"{value:.1f}"
            for b, w in times
            for way, value in w.items()
            if way not in ("ours", "plain")
        },
        "verdict": row["verdict"],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    errors = published_errors(options.parity)
    rows = []
    for name in choose(options.names):
        rows.append(measure(name, options, errors))
        print(f"{name}: {rows[-1]['verdict']}", file=sys.stderr)
    about = machine.describe(choose_device(options.device))
    command = "python -m benchmarks.networks --parity PARITY --output docs/networks_measured.md"
    document = markdown(rows, command, about)
    if options.output:
        options.output.write_text(document)
    else:
        print(document)
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "networks": rows}, indent=2) + "\n")
    return 0 if all(row["verdict"] == "green" for row in rows) else 1


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except MedsrError as error:
        raise SystemExit(f"benchmarks.networks: error: {error}") from None
