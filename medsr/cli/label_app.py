"""`medsr label-app`: write the app folder that a MONAI Label server starts."""

from __future__ import annotations

import argparse
import shlex
from importlib.resources import files
from pathlib import Path

from medsr.errors import OutputError
from medsr.files.atomic import write_text

_MAIN = "main.py"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `medsr label-app` to the command line."""
    parser = subparsers.add_parser(
        "label-app",
        help="write an app for MONAI Label",
        description="Write the app folder that a MONAI Label server starts; see docs/monai_label.md.",
    )
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="folder of the app")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the app, and print how to start it.

    Raises:
        OutputError: If the folder holds another app, or cannot be written.
    """
    folder = Path(arguments.output).expanduser()
    content = (files("medsr.label") / "template" / _MAIN).read_text(encoding="utf-8")
    main = folder / _MAIN
    if main.exists() and main.read_text(encoding="utf-8", errors="replace") != content:
        raise OutputError(f"{main} is another app's; choose another folder, or remove this file")
    write_text(main, content)
    print(f"{folder} is ready; in MONAI Label's environment:")
    print(f"  monailabel start_server --host 127.0.0.1 --app {shlex.quote(str(folder))} --studies IMAGES")
    return 0
