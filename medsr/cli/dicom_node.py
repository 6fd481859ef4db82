"""`medsr dicom-node`: run a DICOM node that enlarges the series that it receives, and sends the results."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from medsr.bundle import DEFAULT_BUNDLE
from medsr.errors import InputError

_OPTIONS = (
    *("queue", "ae_title", "host", "port", "callers", "allow_any_caller", "destination"),
    *("bundle", "scale", "spacing", "device", "quiet_seconds"),
)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `medsr dicom-node` to the command line."""
    parser = subparsers.add_parser(
        "dicom-node",
        help="receive DICOM series, send derived series",
        description="Receive MR and CT series by C-STORE, enlarge them, and send the derived series to a destination. "
        "Every option replaces an entry of the configuration file; docs/dicom_node.md lists all entries.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file, YAML or JSON")
    parser.add_argument("--queue", type=Path, metavar="DIR", help="folder of the queue, on a local disk")
    parser.add_argument("--ae-title", metavar="AE", help="AE title of the node (default: MEDSR)")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default: 11112)")
    parser.add_argument(
        "--caller", action="append", dest="callers", metavar="AE", help="AE title that may send; may be repeated"
    )
    parser.add_argument(
        "--allow-any-caller", action="store_true", default=None, help="let everyone who reaches the port send"
    )
    parser.add_argument("--destination", metavar="AE@HOST:PORT", help="application to send derived series to")
    parser.add_argument("--bundle", help=f"name or folder of a bundle (default: {DEFAULT_BUNDLE})")
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument("--scale", nargs="+", type=float, help="one number, or one per array axis")
    wanted.add_argument("--spacing", nargs="+", type=float, help="target voxel size in mm")
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument("--quiet-seconds", type=float, help="time without images that completes a study (default: 30)")
    parser.add_argument("--retry-failed", action="store_true", help="first put failed jobs back into the queue")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the node until a signal ends it, and return 0.

    Raises:
        InputError: If a package that the node needs is missing, or the configuration is wrong.
    """
    for module, extra in (("pynetdicom", "node"), ("tenacity", "node")):
        if importlib.util.find_spec(module) is None:
            raise InputError(f"dicom-node needs {module}, which is not installed; run: pip install 'medsr[{extra}]'")
    from medsr.node.config import read_config

    options = {name: getattr(arguments, name) for name in _OPTIONS}
    for name in ("scale", "spacing"):
        if options[name] is not None and len(options[name]) == 1:
            options[name] = options[name][0]
    config = read_config(arguments.config, options)
    from medsr.node.service import serve

    serve(config, retry_failed=arguments.retry_failed)
    return 0
