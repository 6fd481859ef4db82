"""`medsr upscale`: images in, SR images out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from medsr.bundle import DEFAULT_BUNDLE
from medsr.upscaling import Progress

if TYPE_CHECKING:  # imported where needed: they load torch, which `medsr --help` need not wait for
    from medsr.upscaling import Case, Upscaler


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
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
        help="image, folder of images or of slices (PNG, TIFF), DICOM folder/zip, .txt list",
    )
    parser.add_argument("--series", metavar="UID", help="SeriesInstanceUID, where DICOM inputs hold several series")
    parser.add_argument(
        "--contrasts",
        nargs="+",
        metavar="NAME",
        help="channels of the bundle's network, as words in the names of files: T1ce T1w T2w FLAIR",
    )
    parser.add_argument("-o", "--output", required=True, type=Path, help="folder, or a file name for one input")
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, help="name or folder of a bundle (default: %(default)s)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of your own training, instead of the bundle's")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--scale", nargs="+", type=_number, help="one number, or one per array axis: 2 or 1 1 2.5")
    wanted.add_argument("--spacing", nargs="+", type=_number, help="target voxel size in mm: 1 or 1 1 1")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument("--precision", default="float32", help="float32, bfloat16 or float16 (default: float32)")
    parser.add_argument("--memory", type=int, default=2048, metavar="MIB", help="for activations (default: 2048)")
    parser.add_argument(
        "--uncertainty",
        "--ensemble",
        dest="ensemble",
        action="store_true",
        help="average over flips of the image and write their standard deviation (..._std)",
    )
    parser.add_argument("--consistency", action="store_true", help="write |degrade(SR) - LR| (..._consistency)")
    parser.add_argument("--back-projection", type=int, default=0, metavar="N", help="iterations towards the LR image")
    parser.add_argument(
        "--format",
        default=".nii.gz",
        help=".nii.gz, .nii, .nrrd, .mha; dicom: a derived series of a DICOM input; png: pictures of pictures "
        "(default: .nii.gz)",
    )
    parser.add_argument("--bids", action="store_true", help="BIDS names (..._desc-sr_T1w.nii.gz) and sidecars")
    parser.add_argument("--no-preview", action="store_true", help="write no PNG")
    parser.add_argument("--skip-existing", action="store_true", help="leave results alone that were made as asked now")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand: 0 if every image was enlarged, 1 if some failed."""
    from medsr.upscaling import plan_outputs, run_plan

    plan = plan_outputs(
        arguments.inputs,
        arguments.output,
        extension=arguments.format,
        bids=arguments.bids,
        series=arguments.series,
        contrasts=arguments.contrasts,
    )
    report = run_plan(
        plan,
        arguments.bundle,
        skip_existing=arguments.skip_existing,
        stop_at_errors=arguments.debug,
        progress=_Terminal(),
        scale=_one_or_many(arguments.scale),
        spacing=_one_or_many(arguments.spacing),
        **({"weights": str(arguments.weights)} if arguments.weights else {}),
        device=arguments.device,
        precision=arguments.precision,
        memory_mb=arguments.memory,
        ensemble=arguments.ensemble,
        back_projection=arguments.back_projection,
        preview=not arguments.no_preview,
        consistency=arguments.consistency,
    )
    if len(plan.cases) > 1 or report.skipped:
        counts = f"{report.done} done, {len(report.skipped)} skipped, {len(report.failed)} failed"
        print(f"medsr: {counts}", file=sys.stderr)
    return 1 if report.failed else 0


class _Terminal(Progress):
    """Shows the progress: what was written on standard output, everything else on standard error."""

    bar: tqdm[Case]

    def made_otherwise(self, count: int) -> None:
        print(f"medsr: {count} existing result(s) were made otherwise, and are made again", file=sys.stderr)

    def track(self, upscaler: Upscaler, cases: Sequence[Case]) -> Iterable[Case]:
        print(f"medsr: {upscaler.bundle.name} on {upscaler.device}: {len(cases)} image(s)", file=sys.stderr)
        self.bar = tqdm(cases, unit="image", disable=None)
        return self.bar

    def case(self, image: Path) -> None:
        self.bar.set_postfix_str(image.name)

    def saved(self, results: Sequence[Path]) -> None:
        tqdm.write("\n".join(map(str, results)))

    def failed(self, image: Path, what: str) -> None:
        where = "" if str(image) in what else f"{image}: "
        tqdm.write(f"medsr: error: {where}{what}", file=sys.stderr)


def _one_or_many(values: list[float] | None) -> float | list[float] | None:
    return values[0] if values is not None and len(values) == 1 else values


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        hint = " (name the inputs before this option)" if Path(text).exists() else ""
        raise argparse.ArgumentTypeError(f"{text!r} is not a number{hint}") from None
