"""`medsr upscale`: images in, SR images out."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tqdm import tqdm

from medsr.data.atomic import write_json_atomic
from medsr.data.suffixes import split_suffix
from medsr.errors import InputError, OutputError

if TYPE_CHECKING:  # imported where needed: they load torch, which `medsr --help` need not wait for
    from medsr.data.sources import ImageSource
    from medsr.outputs import OutputPaths
    from medsr.upscaling import Upscaler

    Job: TypeAlias = tuple[ImageSource, OutputPaths]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "upscale",
        help="enlarge images",
        description="Enlarge images by a scale or to a target spacing. Name the inputs first.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IN", help="image, folder, DICOM folder/zip, .txt list")
    parser.add_argument("--series", metavar="UID", help="SeriesInstanceUID, where DICOM inputs hold several series")
    parser.add_argument("-o", "--output", required=True, type=Path, help="folder, or a file name for one input")
    parser.add_argument("--bundle", default="recnn3d", help="name or folder of a bundle (default: recnn3d)")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--scale", nargs="+", type=_number, help="one number, or one per array axis: 2 or 1 1 2.5")
    wanted.add_argument("--spacing", nargs="+", type=_number, help="target voxel size in mm: 1 or 1 1 1")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument("--precision", default="float32", help="float32, bfloat16 or float16 (default: float32)")
    parser.add_argument("--memory", type=int, default=2048, metavar="MIB", help="for activations (default: 2048)")
    parser.add_argument("--ensemble", action="store_true", help="average over flips; also write their deviation")
    parser.add_argument("--back-projection", type=int, default=0, metavar="N", help="iterations towards the LR image")
    parser.add_argument("--format", default=".nii.gz", help=".nii.gz, .nii, .nrrd or .mha (default: .nii.gz)")
    parser.add_argument("--no-preview", action="store_true", help="write no PNG")
    parser.add_argument("--skip-existing", action="store_true", help="leave cases alone that have a result already")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand: 0 if every image was enlarged, 1 if some failed."""
    from medsr.data.sources import find_images
    from medsr.outputs import output_paths

    sources = find_images(arguments.inputs, series=arguments.series)
    directory, extension, name_of = _naming(arguments, sources)
    jobs = [(s, output_paths(directory, name_of(s), "", extension)) for s in sources]
    _check_outputs(directory, jobs)
    todo = [(s, paths) for s, paths in jobs if not (arguments.skip_existing and paths.image.exists())]
    skipped = [str(s.path) for s, paths in jobs if (s, paths) not in todo]
    failures = _run_all(arguments, directory, extension, todo) if todo else {}
    if len(jobs) > 1:
        report = {"done": len(todo) - len(failures), "skipped": skipped, "failed": failures}
        write_json_atomic(directory / "medsr_upscale.json", report)
    if len(jobs) > 1 or skipped:
        counts = f"{len(todo) - len(failures)} done, {len(skipped)} skipped, {len(failures)} failed"
        print(f"medsr: {counts}", file=sys.stderr)
    return 1 if failures else 0


def _run_all(arguments: argparse.Namespace, directory: Path, extension: str, jobs: Sequence[Job]) -> dict[str, str]:
    """Enlarge image after image; returns what failed and why. One image's fault does not stop the others."""
    from medsr.engines import user_error

    upscaler = _upscaler(arguments, directory, extension)
    failures: dict[str, str] = {}
    print(f"medsr: {upscaler.bundle.name} on {upscaler.device}: {len(jobs)} image(s)", file=sys.stderr)
    progress = tqdm(jobs, unit="image", disable=None)
    for source, paths in progress:
        progress.set_postfix_str(source.path.name)
        try:
            tqdm.write(str(upscaler.save(source.path, split_suffix(paths.image)[0])))
        except Exception as error:
            mistake = user_error(error)
            if arguments.debug or (mistake is None and len(jobs) == 1):
                raise  # a defect, not a user's mistake
            what = str(mistake or f"{type(error).__name__}: {' '.join(str(error).split())}")
            failures[str(source.path)] = what
            where = "" if str(source.path) in what else f"{source.path}: "
            tqdm.write(f"medsr: error: {where}{what}", file=sys.stderr)
    return failures


def _naming(
    arguments: argparse.Namespace, sources: Sequence[ImageSource]
) -> tuple[Path, str, Callable[[ImageSource], str]]:
    """(folder, extension, case -> file name without extension)."""
    from medsr.outputs.saving import EXTENSIONS

    output = Path(os.path.abspath(arguments.output.expanduser()))
    stem, suffix = split_suffix(output)
    if suffix in EXTENSIONS and not output.is_dir():
        if len(sources) > 1:
            raise InputError(f"{output} is one file, but there are {len(sources)} inputs; give a folder")
        return output.parent, suffix, lambda source: stem
    if output.is_file():
        raise InputError(f"{output} is a file, but no image; give a folder, or a name ending in .nii.gz")
    return output, arguments.format, lambda source: f"{source.stem}_sr"


def _check_outputs(directory: Path, jobs: Sequence[Job]) -> None:
    """Tell before the work what would be an error after it.

    Raises:
        InputError: a result would replace an input.
        OutputError: the folder cannot be written.
    """
    from medsr.outputs.saving import refuse_to_replace

    inputs = {source.path.resolve() for source, _ in jobs}
    for source, paths in jobs:
        refuse_to_replace(paths, source.path)
        replaced = [path for path in paths if path.resolve() in inputs]
        if replaced:
            raise InputError(f"{replaced[0]} would be a result, but is an input too; give another folder")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise OutputError(f"{directory}: cannot be written: {error.strerror}; choose another folder") from error


def _upscaler(arguments: argparse.Namespace, directory: Path, extension: str) -> Upscaler:
    from medsr.upscaling import Upscaler

    return Upscaler(
        arguments.bundle,
        scale=_one_or_many(arguments.scale),
        spacing=_one_or_many(arguments.spacing),
        **({"series": arguments.series} if arguments.series else {}),
        device=arguments.device,
        precision=arguments.precision,
        memory_mb=arguments.memory,
        ensemble=arguments.ensemble,
        back_projection=arguments.back_projection,
        preview=not arguments.no_preview,
        output_dir=str(directory),
        output_ext=extension,
        output_postfix="",
    )


def _one_or_many(values: list[float] | None) -> float | list[float] | None:
    return values[0] if values is not None and len(values) == 1 else values


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        hint = " (name the inputs before this option)" if Path(text).exists() else ""
        raise argparse.ArgumentTypeError(f"{text!r} is not a number{hint}") from None
