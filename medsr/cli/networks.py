"""`medsr networks`: every network, what it costs, and what was published of it."""

from __future__ import annotations

import argparse
import json
from typing import Any

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

    from medsr.networks.descriptions import choose, describe

    rows = [describe(name) for name in choose(arguments.names)]
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


def text_of(value: Any) -> str:
    """A cell."""
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
