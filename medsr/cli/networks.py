"""`medsr networks`: every network, what it costs, and what was published of it."""

from __future__ import annotations

import argparse
import json


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
    parser.add_argument(
        "--format",
        choices=("text", "markdown", "json"),
        default="text",
        help="markdown writes the page docs/networks.md (default: text)",
    )
    parser.add_argument("--wide", action="store_true", help="also paper, family, channels and remarks")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    from medsr.networks import descriptions, table  # loaded late: a help text need not wait for torch

    rows = [descriptions.describe(name) for name in descriptions.choose(arguments.names)]
    if arguments.format == "json":
        print(json.dumps(rows, indent=2))
    elif arguments.format == "markdown":
        print(table.document(rows))
    else:
        print(table.text(rows, tuple(table.COLUMNS) if arguments.wide else table.NARROW))
    return 0
