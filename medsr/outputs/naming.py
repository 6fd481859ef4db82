"""Name the files of a result, and refuse to overwrite anything that is not an earlier result."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from medsr.data.dicom.derived.writing import is_derived_series
from medsr.data.folders import stack_slices
from medsr.data.inference_items import DICOM, PNG
from medsr.errors import InputError
from medsr.files.atomic import check_folder
from medsr.files.suffixes import split_suffix
from medsr.outputs.bids import bids_stem
from medsr.outputs.picture_result import is_picture_result

EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".mha")
FOLDERS = (DICOM, PNG)  # formats that are a folder of images instead of one file
FORMATS = (*EXTENSIONS, *FOLDERS)
_OF_MAPS = ".nii.gz"  # the format of uncertainty and consistency maps beside a folder
_OF_BIDS = (".nii.gz", ".nii")


class OutputPaths(NamedTuple):
    """The files of one case; `image` is a folder if the format is "dicom" or "png"."""

    image: Path
    record: Path
    preview: Path
    deviation: Path
    consistency: Path


def output_paths(directory: str | Path, stem: str, postfix: str = "sr", extension: str = ".nii.gz") -> OutputPaths:
    """Return the paths of the files of one case; no file is written.

    Args:
        directory: The directory of the results.
        stem: The name of the case, which may contain folders.
        postfix: The text that is appended to the name after an underscore; nothing if empty.
        extension: The extension of the image and the maps. For "dicom" and "png" the image is a folder, and the maps
            are .nii.gz.

    Raises:
        InputError: If the extension is not one that can be written.

    Examples:
        >>> from medsr.outputs import output_paths
        >>> paths = output_paths("out", "head")
        >>> [path.as_posix() for path in (paths.image, paths.record, paths.preview)]
        ['out/head_sr.nii.gz', 'out/head_sr.json', 'out/head_sr.png']
        >>> paths.deviation.name, paths.consistency.name
        ('head_sr_std.nii.gz', 'head_sr_consistency.nii.gz')
        >>> output_paths("out", "head", extension="dicom").image.as_posix()
        'out/head_sr'
    """
    if extension not in FORMATS:
        raise InputError(f"results are written as {', '.join(FORMATS)}, got {extension!r}; choose one of them")
    base = Path(directory) / f"{stem}_{postfix}" if postfix else Path(directory) / stem
    maps = _OF_MAPS if extension in FOLDERS else extension
    image = base if extension in FOLDERS else Path(f"{base}{extension}")
    return OutputPaths(
        image, *(Path(f"{base}{end}") for end in (".json", ".png", f"_std{maps}", f"_consistency{maps}"))
    )


def case_paths(
    directory: str | Path, source: str | Path, stem: str, postfix: str, extension: str, bids: bool = False
) -> OutputPaths:
    """Return the paths of `output_paths`, or with `bids` those of a BIDS derivative (sub-01_desc-sr_T1w.nii.gz).

    Args:
        directory: The directory of the results.
        source: The input image.
        stem: The name of the case, which is not used with `bids`.
        postfix: The text that is appended to the name, or with `bids` the value of `desc-`.
        extension: The extension of the image.
        bids: Whether the result is a BIDS derivative.

    Raises:
        InputError: If the extension cannot be written or does not exist in BIDS, or the source has no BIDS name.
    """
    if not bids:
        return output_paths(directory, stem, postfix, extension)
    check_bids_format(extension)
    return output_paths(directory, bids_stem(source, postfix), "", extension)


def check_bids_format(extension: str) -> None:
    """Raise InputError unless BIDS has the format."""
    if extension not in _OF_BIDS:
        raise InputError(
            f"BIDS names are for {' and '.join(_OF_BIDS)}, got {extension!r}; choose one of these formats, or leave "
            "out the BIDS names"
        )


def refuse_to_replace(paths: OutputPaths, source: str | Path, extension: str = DICOM) -> None:
    """Refuse a result that would replace its input, the input's sidecar (BIDS), or files that are not a result.

    Args:
        paths: The paths of the result.
        source: The input.
        extension: The format. If it is a folder, an earlier result of this format may be replaced.

    Raises:
        InputError: If the result has the folder and the name of its input, whatever the extensions; if it is a folder
            inside the folder of its input, which would then hold two images; or if the input is a stack of pictures
            and the result is in its folder, where the preview would become one of the slices.
        OutputError: If the result is a folder, and a folder of that name holds something else.
    """
    given = Path(source)
    if is_folder(paths):
        check_folder(paths.image, replaceable=is_picture_result if extension == PNG else is_derived_series)
    if not str(source):
        return
    result, origin = paths.image.resolve(), given.resolve()
    if given.is_dir():
        if result == origin or (origin in result.parents and (is_folder(paths) or stack_slices(given))):
            raise InputError(f"{paths.image} would be written into its input {given.name}; choose another folder")
        return
    if result.parent == origin.parent and split_suffix(given)[0] == _stem_of(paths):
        raise InputError(f"{paths.image} would be named as its input {given.name}; choose another folder or name")


def is_folder(paths: OutputPaths) -> bool:
    """Return whether the image is a folder."""
    return paths.record.name == f"{paths.image.name}.json"


def _stem_of(paths: OutputPaths) -> str:
    return paths.record.name.removesuffix(".json")
