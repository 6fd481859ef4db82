"""`medsr networks`: list the networks with their costs and their published figures."""

from __future__ import annotations

import argparse
import json


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `medsr networks` to the command line."""
    parser = subparsers.add_parser(
        "networks",
        help="list the networks of the literature",
        description="List every network with its trainable parameters, its multiply-adds in G for one input of the "
        "given size (M-conv: convolutions and linear layers; M-all: every product, attention included), and the "
        "published figures.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these presets or classes")
    parser.add_argument(
        "--format",
        choices=("text", "markdown", "json"),
        default="text",
        help="markdown prints the page docs/networks.md (default: text)",
    )
    parser.add_argument("--wide", action="store_true", help="also show paper, family, channels and remarks")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the networks."""
    from medsr.networks import descriptions, table  # imported here because it loads torch, which takes seconds

    rows = [descriptions.describe(name) for name in descriptions.choose(arguments.names)]
    if arguments.format == "json":
        print(json.dumps(rows, indent=2))
    elif arguments.format == "markdown":
        print(table.document(rows))
    else:
        print(table.text(rows, tuple(table.COLUMNS) if arguments.wide else table.NARROW))
    return 0
