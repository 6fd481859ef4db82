"""`medsr upscale`: images in, SR images out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from medsr.data.atomic import write_json_atomic
from medsr.data.sources import ImageSource, find_images
from medsr.data.suffixes import split_suffix
from medsr.engines import user_error
from medsr.errors import InputError, MedsrError
from medsr.outputs import OutputPaths, output_paths
from medsr.outputs.saving import EXTENSIONS
from medsr.upscaling import Upscaler


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "upscale",
        help="enlarge images",
        description="Enlarge images by a scale or to a target spacing. Name the inputs first.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IN", help="image, folder, DICOM folder, or .txt list")
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
    parser.add_argument("--format", default=".nii.gz", choices=EXTENSIONS, help="of the results (default: .nii.gz)")
    parser.add_argument("--no-preview", action="store_true", help="write no PNG")
    parser.add_argument("--skip-existing", action="store_true", help="leave cases alone that have a result already")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand: 0 if every image was enlarged, 1 if some failed."""
    sources = find_images(arguments.inputs)
    directory, extension, name_of = _naming(arguments, sources)
    jobs = [(s, output_paths(directory, name_of(s), "", extension)) for s in sources]
    skipped = [s for s, paths in jobs if arguments.skip_existing and paths.image.exists()]
    todo = [(s, paths) for s, paths in jobs if s not in skipped]
    failures: dict[str, str] = {}
    if todo:
        upscaler = _upscaler(arguments, directory, extension)
        print(f"{upscaler.bundle.name} on {upscaler.device}: {len(todo)} image(s)", file=sys.stderr)
        progress = tqdm(todo, unit="image", disable=None)
        for source, _ in progress:
            progress.set_postfix_str(source.path.name)
            try:
                saved = upscaler.save(source.path, name_of(source))
                tqdm.write(str(saved))
            except Exception as error:
                if not isinstance(user_error(error), MedsrError) and len(jobs) == 1:
                    raise  # a defect, not a user's mistake
                failures[str(source.path)] = str(user_error(error) or f"{type(error).__name__}: {error}")
                print(f"medsr: error: {failures[str(source.path)]}", file=sys.stderr)
    if len(jobs) > 1:
        report = {
            "done": len(todo) - len(failures),
            "skipped": [str(s.path) for s in skipped],
            "failed": failures,
        }
        write_json_atomic(directory / "medsr_upscale.json", report)
        print(f"{report['done']} done, {len(skipped)} skipped, {len(failures)} failed", file=sys.stderr)
    return 1 if failures else 0


def _naming(
    arguments: argparse.Namespace, sources: list[ImageSource]
) -> tuple[Path, str, Callable[[ImageSource], str]]:
    """(folder, extension, case -> file name without extension)."""
    output: Path = arguments.output.expanduser()
    stem, suffix = split_suffix(output)
    if suffix in EXTENSIONS:
        if len(sources) > 1:
            raise InputError(f"{output} is one file, but there are {len(sources)} inputs; give a folder")
        if output.resolve() == sources[0].path.resolve():
            raise InputError(f"{output} is the input; choose another name")
        return output.parent, suffix, lambda source: stem
    if output.is_file():
        raise InputError(f"{output} is a file that is no image; give a folder, or a name ending in .nii.gz")
    return output, arguments.format, lambda source: f"{source.stem}_sr"


def _upscaler(arguments: argparse.Namespace, directory: Path, extension: str) -> Upscaler:
    return Upscaler(
        arguments.bundle,
        scale=_one_or_many(arguments.scale),
        spacing=_one_or_many(arguments.spacing),
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
