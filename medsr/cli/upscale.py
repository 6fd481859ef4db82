"""`medsr upscale`: enlarge images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from medsr.bundle import DEFAULT_BUNDLE, find_bundle
from medsr.bundle.settings import SETTINGS
from medsr.errors import MedsrError
from medsr.upscaling import Progress

if TYPE_CHECKING:  # imported late at run time because it loads torch, which takes seconds
    from medsr.upscaling import Case, Upscaler

# The option and the default of each setting on the command line; None leaves a setting to the bundle.
_OPTIONS: dict[str, tuple[str, str | None]] = {
    "device": ("--device", "auto"),
    "precision": ("--precision", "float32"),
    "memory_mb": ("--memory", "2048"),
    "tile_size": ("--tile-size", None),
    "between_scales": ("--between-scales", None),
    "formation": ("--formation", "auto"),
}
_SWITCHES = {
    "ensemble": ("--uncertainty", "--ensemble"),
    "consistency": ("--consistency",),
    "bids": ("--bids",),
    "compile": ("--compile",),
    "preview": ("--preview",),
    "safe": ("--safe",),
}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `medsr upscale` to the command line."""
    parser = subparsers.add_parser(
        "upscale",
        help="enlarge images",
        description="Enlarge images by a scale or to a target spacing. Name the inputs first.",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="IN",
        help="image, folder of images or of slices (PNG, TIFF), DICOM folder or zip, or .txt list of these",
    )
    parser.add_argument("--series", metavar="UID", help="SeriesInstanceUID, where DICOM inputs hold several series")
    parser.add_argument(
        "--contrasts",
        nargs="+",
        metavar="NAME",
        help="channels of the bundle's network, as words in the file names: T1ce T1w T2w FLAIR",
    )
    parser.add_argument("-o", "--output", required=True, type=Path, help="folder, or a file name for one input")
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, help="name or folder of a bundle (default: %(default)s)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights of your own, instead of the bundle's")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--scale", nargs="+", type=_number, help="one number, or one per array axis: 2 or 1 1 2.5")
    wanted.add_argument("--spacing", nargs="+", type=_number, help="target voxel size in mm: 1 or 1 1 1")
    for name, (option, default) in _OPTIONS.items():
        default_text = f" (default: {default})" if default else ""
        parser.add_argument(option, dest=name, default=default, help=f"{SETTINGS[name].help}{default_text}")
    for name, options in _SWITCHES.items():
        parser.add_argument(
            *options, dest=name, nargs="?", const=True, type=_switch, metavar="no", help=SETTINGS[name].help
        )
    parser.add_argument(
        "--format", dest="output_ext", default=".nii.gz", help=f"{SETTINGS['output_ext'].help} (default: %(default)s)"
    )
    parser.add_argument("--no-preview", dest="preview", action="store_false", help="write no PNG")
    parser.add_argument("--skip-existing", action="store_true", help="keep results that were made by the same request")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Enlarge the images; return 0 if every image was enlarged, 1 if some failed."""
    from medsr.bundle.loaded import checked_settings
    from medsr.upscaling import plan_outputs, run_plan

    names = ("series", "contrasts", "weights", "scale", "spacing", "output_ext", *_OPTIONS, *_SWITCHES)
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    settings = checked_settings(find_bundle(arguments.bundle), given)
    plan = plan_outputs(
        arguments.inputs,
        arguments.output,
        extension=settings.pop("output_ext"),
        bids=settings.pop("bids", False),
        series=settings.pop("series", None),
        contrasts=settings.pop("contrasts", None),
    )
    report = run_plan(
        plan,
        arguments.bundle,
        skip_existing=arguments.skip_existing,
        stop_at_errors=arguments.debug,
        progress=_Terminal(),
        **settings,
    )
    if len(plan.cases) > 1 or report.skipped:
        counts = f"{report.done} done, {len(report.skipped)} skipped, {len(report.failed)} failed"
        print(f"medsr: {counts}", file=sys.stderr)
    return 1 if report.failed else 0


class _Terminal(Progress):
    """The progress on a terminal: names of results on standard output, everything else on standard error."""

    bar: tqdm[Case]

    def made_otherwise(self, count: int) -> None:
        """Print how many results are made again."""
        print(f"medsr: {count} existing result(s) were made otherwise, and are made again", file=sys.stderr)

    def track(self, upscaler: Upscaler, cases: Sequence[Case]) -> Iterable[Case]:
        """Print the bundle and the device, and return the cases in a progress bar."""
        print(f"medsr: {upscaler.bundle.name} on {upscaler.device}: {len(cases)} image(s)", file=sys.stderr)
        self.bar = tqdm(cases, unit="image", disable=None)
        return self.bar

    def case(self, image: Path) -> None:
        """Show the name of the image in the progress bar."""
        self.bar.set_postfix_str(image.name)

    def saved(self, results: Sequence[Path]) -> None:
        """Print the names of the results."""
        tqdm.write("\n".join(map(str, results)))

    def failed(self, image: Path, what: str) -> None:
        """Print an error, with the name of the image unless the error holds it."""
        where = "" if str(image) in what else f"{image}: "
        tqdm.write(f"medsr: error: {where}{what}", file=sys.stderr)


def _number(text: str) -> float:
    """Return the number that a text holds.

    Raises:
        argparse.ArgumentTypeError: If the text is not a number.
    """
    try:
        return float(text)
    except ValueError:
        hint = " (name the inputs before this option)" if Path(text).exists() else ""
        raise argparse.ArgumentTypeError(f"{text!r} is not a number{hint}") from None


def _switch(text: str) -> bool:
    """Return the value of a switch.

    Raises:
        argparse.ArgumentTypeError: If the text is neither true nor false.
    """
    try:
        return bool(SETTINGS["ensemble"].parse("it", text))
    except MedsrError:
        hint = "name the inputs before this option" if Path(text).exists() else "write true or false, or nothing"
        raise argparse.ArgumentTypeError(f"{text!r} is not true or false ({hint})") from None
