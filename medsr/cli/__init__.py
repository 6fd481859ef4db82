"""The command line: a thin layer on the bundles and the data tools."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from medsr.cli import bundles, compare, data, dicom_node, label_app, networks, upscale, weights
from medsr.errors import MedsrError
from medsr.version import __version__

COMMANDS = (upscale, bundles, networks, weights, data, compare, label_app, dicom_node)  # each registers its subcommand


class _Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line, like the commands do."""

    def error(self, message: str) -> NoReturn:
        """Print the error in one line, and exit with status 2."""
        self.exit(2, f"medsr: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    parser = _Parser(
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
    """Run the command line.

    Args:
        argv: The words after the name of the command; those of this process by default.

    Returns:
        The exit status: 0 if all was done, 1 if something failed, 2 if the request is at fault, 130 after Ctrl-C.
    """
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(format="medsr: %(levelname)s: %(message)s", level=logging.WARNING)
    with warnings.catch_warnings(), _terminating_cleanly():
        warnings.filterwarnings("ignore", module="monai")
        try:
            return int(arguments.run(arguments))
        except BrokenPipeError:
            return 1
        except KeyboardInterrupt:
            print("medsr: interrupted", file=sys.stderr)
            return 130
        except Exception as error:
            mistake = _mistake(error)
            if mistake is None or arguments.debug:
                raise
            print(f"medsr: error: {mistake}", file=sys.stderr)
            return 2


def _mistake(error: Exception) -> MedsrError | None:
    """Return the user's mistake behind an exception, or None if there is none."""
    if isinstance(error, MedsrError):
        return error
    from medsr.engines import user_error  # imported here because it loads torch, which takes seconds

    return user_error(error)


@contextmanager
def _terminating_cleanly() -> Iterator[None]:
    """Let a termination signal run the `finally` blocks, so that no temporary file stays behind."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminated(number: int, frame: FrameType | None) -> None:
    """Exit with the status that shells give to a process that a signal has ended.

    Raises:
        SystemExit: In every case.
    """
    raise SystemExit(128 + number)
