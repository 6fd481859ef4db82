"""`medsr upscale`: images in, SR images out."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

from medsr.errors import InputError, OutputError
from medsr.files.atomic import write_json_atomic
from medsr.files.suffixes import PICTURE, split_suffix

if TYPE_CHECKING:  # imported where needed: they load torch, which `medsr --help` need not wait for
    from medsr.data.input_images import InputImage
    from medsr.outputs import OutputPaths
    from medsr.upscaling import Upscaler


class Job(NamedTuple):
    """One image to enlarge, or one contrast of a case.

    Attributes:
        source: the image.
        stem: what the bundle is told to name its results by.
        paths: where they will be.
    """

    source: InputImage
    stem: str
    paths: OutputPaths


class Place(NamedTuple):
    """Where results go: folder, format, what the bundle appends to names, and how a case is named."""

    directory: Path
    extension: str
    postfix: str
    stem_of: Callable[[InputImage], str]


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
    parser.add_argument("--bundle", default="recnn3d", help="name or folder of a bundle (default: recnn3d)")
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
    from medsr.data.contrasts import contrast_groups
    from medsr.data.input_images import find_images

    sources = find_images(arguments.inputs, series=arguments.series)
    groups = [[source] for source in sources]
    if arguments.contrasts:
        groups = contrast_groups(sources, arguments.contrasts)
    place = _place(arguments, [source for group in groups for source in group])
    cases = [[_job(arguments, place, source) for source in group] for group in groups]
    _check_outputs(place, [job for case in cases for job in case])
    todo = _todo(arguments, cases) if arguments.skip_existing else cases
    skipped = [str(job.source.path) for case in cases if case not in todo for job in case]
    failures = _run_all(arguments, place, todo) if todo else {}
    if len(cases) > 1:
        report = {"done": len(todo) - len(failures), "skipped": skipped, "failed": failures}
        write_json_atomic(place.directory / "medsr_upscale.json", report)
    if len(cases) > 1 or skipped:
        counts = f"{len(todo) - len(failures)} done, {len(skipped)} skipped, {len(failures)} failed"
        print(f"medsr: {counts}", file=sys.stderr)
    return 1 if failures else 0


def _job(arguments: argparse.Namespace, place: Place, source: InputImage) -> Job:
    from medsr.outputs.naming import case_paths

    stem = place.stem_of(source)
    paths = case_paths(place.directory, source.path, stem, place.postfix, place.extension, arguments.bids)
    return Job(source, stem, paths)


def _todo(arguments: argparse.Namespace, cases: list[list[Job]]) -> list[list[Job]]:
    """The cases without results that were made as asked now."""
    from medsr.cli.existing import is_done, wanted

    facts = wanted(arguments)
    todo = []
    for case in cases:
        channels = [None] if len(case) == 1 else range(len(case))
        found = zip(channels, case, strict=True)
        if not all(is_done(job.paths, facts, consistency=arguments.consistency, channel=k) for k, job in found):
            todo.append(case)
    others = sum(job.paths.image.exists() for case in todo for job in case)
    if others:
        print(f"medsr: {others} existing result(s) were made otherwise, and are made again", file=sys.stderr)
    return todo


def _run_all(arguments: argparse.Namespace, place: Place, cases: Sequence[Sequence[Job]]) -> dict[str, str]:
    """Enlarge image after image, contrasts together; returns what failed and why. One's fault does not stop others."""
    from medsr.engines import user_error

    upscaler = _upscaler(arguments, place)
    failures: dict[str, str] = {}
    print(f"medsr: {upscaler.bundle.name} on {upscaler.device}: {len(cases)} image(s)", file=sys.stderr)
    progress = tqdm(cases, unit="image", disable=None)
    for case in progress:
        source, stem, _ = case[0]
        progress.set_postfix_str(source.path.name)
        try:
            if len(case) == 1:
                saved = [upscaler.save(source.path, stem)]
            else:
                saved = upscaler.save_contrasts([job.source.path for job in case], [job.stem for job in case])
            tqdm.write("\n".join(map(str, saved)))
        except Exception as error:
            mistake = user_error(error)
            if arguments.debug or (mistake is None and len(cases) == 1):
                raise  # a defect, not a user's mistake
            what = str(mistake or f"{type(error).__name__}: {' '.join(str(error).split())}")
            failures[str(source.path)] = what
            where = "" if str(source.path) in what else f"{source.path}: "
            tqdm.write(f"medsr: error: {where}{what}", file=sys.stderr)
    return failures


def _place(arguments: argparse.Namespace, sources: Sequence[InputImage]) -> Place:
    """Where results go.

    Raises:
        InputError: options that contradict each other, or a DICOM result of what is not DICOM, or pictures of what is
            none.
    """
    from medsr.data.inference_items import check_format
    from medsr.outputs.naming import EXTENSIONS, FOLDERS

    output = Path(os.path.abspath(arguments.output.expanduser()))
    stem, suffix = split_suffix(output)
    if suffix in EXTENSIONS and not output.is_dir():
        if len(sources) > 1:
            raise InputError(f"{output} is one file, but there are {len(sources)} inputs; give a folder")
        if arguments.bids or arguments.format in FOLDERS:
            what = "--bids names the results" if arguments.bids else f"--format {arguments.format} makes a folder"
            raise InputError(f"{output} is a file, but {what}; give a folder to put them in")
        return Place(output.parent, suffix, "", lambda source: stem)
    if output.is_file():
        raise InputError(f"{output} is a file, but no image; give a folder, or a name ending in .nii.gz")
    if suffix.lower() in PICTURE and not output.is_dir():
        raise InputError(f"{output}: pictures are written into a folder; give a folder, and --format png")
    for source in sources:
        check_format(source, arguments.format)
    if arguments.bids:  # the bundle finds the name itself
        return Place(output, arguments.format, "sr", lambda source: source.stem)
    return Place(output, arguments.format, "", lambda source: f"{source.stem}_sr")


def _check_outputs(place: Place, jobs: Sequence[Job]) -> None:
    """Tell before the work what would be an error after it.

    Raises:
        InputError: a result would replace an input, or two results have one name.
        OutputError: the folder cannot be written.
    """
    from medsr.outputs.naming import refuse_to_replace

    inputs = {source.path.resolve() for source, _, _ in jobs}
    taken: dict[Path, Path] = {}
    for source, _, paths in jobs:
        other = taken.setdefault(paths.image, source.path)
        if other != source.path:
            raise InputError(f"{source.path} and {other} would both become {paths.image}; run them apart")
        refuse_to_replace(paths, source.path, place.extension)
        replaced = [path for path in paths if path.resolve() in inputs]
        if replaced:
            raise InputError(f"{replaced[0]} would be a result, but is an input too; give another folder")
    try:
        place.directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place.directory).close()
    except OSError as error:
        raise OutputError(f"{place.directory}: cannot be written: {error.strerror}; choose another folder") from error


def _upscaler(arguments: argparse.Namespace, place: Place) -> Upscaler:
    from medsr.upscaling import Upscaler

    return Upscaler(
        arguments.bundle,
        scale=_one_or_many(arguments.scale),
        spacing=_one_or_many(arguments.spacing),
        **{name: str(value) for name in ("series", "weights") if (value := getattr(arguments, name))},
        **({"contrasts": arguments.contrasts} if arguments.contrasts else {}),
        device=arguments.device,
        precision=arguments.precision,
        memory_mb=arguments.memory,
        ensemble=arguments.ensemble,
        back_projection=arguments.back_projection,
        preview=not arguments.no_preview,
        output_dir=str(place.directory),
        output_ext=place.extension,
        output_postfix=place.postfix,
        consistency=arguments.consistency,
        bids=arguments.bids,
    )


def _one_or_many(values: list[float] | None) -> float | list[float] | None:
    return values[0] if values is not None and len(values) == 1 else values


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        hint = " (name the inputs before this option)" if Path(text).exists() else ""
        raise argparse.ArgumentTypeError(f"{text!r} is not a number{hint}") from None
