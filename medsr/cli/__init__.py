"""The command line: a thin layer on the bundles and the data tools."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType

from medsr import __version__
from medsr.cli import bundles, data, upscale
from medsr.errors import MedsrError

COMMANDS = (upscale, bundles, data)  # each registers its subcommand


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="medsr",
        description="Medical image super-resolution. Research use only; not for diagnosis.",
    )
    parser.add_argument("--version", action="version", version=f"medsr {__version__}")
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.register(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 1 something failed, 2 the request is at fault."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(format="medsr: %(levelname)s: %(message)s", level=logging.WARNING)
    warnings.filterwarnings("ignore", module="monai")
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return int(arguments.run(arguments))
    except MedsrError as error:
        if arguments.debug:
            raise
        print(f"medsr: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        print("medsr: interrupted", file=sys.stderr)
        return 130


def _terminated(number: int, frame: FrameType | None) -> None:
    """Leave through `finally`, so that no temporary file stays behind."""
    raise SystemExit(128 + number)
