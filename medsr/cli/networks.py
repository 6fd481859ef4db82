"""`medsr networks`: every network, what it costs, and what was published of it."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medsr.networks import NetworkSpec

COLUMNS = {
    "name": "name",
    "class": "class",
    "paper": "paper",
    "family": "family",
    "scale": "scale",
    "halo": "halo",
    "channels": "channels",
    "parameters": "parameters",
    "input": "input",
    "conv": "M-conv (G)",
    "all": "M-all (G)",
    "published": "published",
    "remark": "remark",
}
NARROW = ("name", "class", "scale", "halo", "parameters", "input", "conv", "all", "published")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "networks",
        help="list the networks of the literature",
        description="Every network, its trainable parameters and multiply-adds in G for one input of the given size "
        "(M-conv: convolutions and linear layers; M-all: every product, attention included), and the published "
        "figures.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these presets or classes")
    parser.add_argument("--format", choices=("text", "markdown", "json"), default="text", help="(default: text)")
    parser.add_argument("--wide", action="store_true", help="also paper, family, channels and remarks")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    from tabulate import tabulate  # loaded late, as all that a help text need not wait for

    names = choose(arguments.names)
    rows = [describe(name) for name in names]
    if arguments.format == "json":
        print(json.dumps(rows, indent=2))
        return 0
    columns = list(COLUMNS) if arguments.wide or arguments.format == "markdown" else list(NARROW)
    style = "github" if arguments.format == "markdown" else "simple"
    cells = [[text_of(row[column]) for column in columns] for row in rows]
    right = {"parameters", "conv", "all", "halo", "channels"}
    alignment = ["right" if column in right else "left" for column in columns]
    print(
        tabulate(
            cells,
            headers=[COLUMNS[column] for column in columns],
            tablefmt=style,
            colalign=alignment,
            disable_numparse=True,
        )
    )
    return 0


def choose(names: list[str]) -> list[str]:
    """Presets, all or those named, or of the classes named.

    Raises:
        InputError: nothing is called so.
    """
    from medsr.errors import InputError
    from medsr.networks import PRESETS

    for name in names:
        if name not in PRESETS and all(preset.network.__name__ != name for preset in PRESETS.values()):
            raise InputError(f"no network is called {name!r}; `medsr networks` lists them all")
    return [n for n, preset in PRESETS.items() if not names or n in names or preset.network.__name__ in names]


def describe(name: str) -> dict[str, Any]:
    """A row, values unrounded."""
    import torch

    from medsr.networks import PRESETS, create
    from medsr.networks.complexity import count_parameters, multiply_adds

    preset = PRESETS[name]
    with torch.device("meta"):
        network = create(name)
    spec: NetworkSpec = network.spec  # type: ignore[assignment]
    size = reference_size(spec)
    scales = [spec.scales, *spec.other_scales] if spec.scales else []
    return {
        "name": name,
        "class": type(network).__name__,
        "paper": spec.paper,
        "family": spec.family.value,
        "scale": ", ".join(str(s[0]) for s in sorted(scales)) if scales else "any" if spec.family.generates else "-",
        "halo": "whole image" if spec.halo is None else spec.halo,
        "channels": spec.in_channels,
        "parameters": count_parameters(network),
        "input": "x".join(map(str, size)),
        "conv": multiply_adds(network, size, "conv") / 1e9,
        "all": multiply_adds(network, size, "all") / 1e9,
        "published": preset.published,
        "remark": preset.remark or spec.deviations,
    }


def reference_size(spec: NetworkSpec) -> tuple[int, ...]:
    """Of the input that multiply-adds are stated for: LR 40x32 (Zhu 2022), what x4 makes of it, 48^3 in 3D."""
    from medsr.networks import Family

    if spec.spatial_dims == 3:
        return (48, 48, 48)
    if spec.family is Family.DISCRIMINATOR:
        smallest, largest = spec.input_sizes or (96, 96)
        return (min(max(96, smallest), largest),) * 2
    return (40, 32) if spec.family in (Family.FIXED, Family.ARBITRARY) else (160, 128)


def text_of(value: Any) -> str:
    """A cell."""
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
