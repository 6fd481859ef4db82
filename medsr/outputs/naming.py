"""Name the files of a result, and refuse to overwrite what is not an earlier result."""

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
FOLDERS = (DICOM, PNG)  # in place of an extension: a folder of images
FORMATS = (*EXTENSIONS, *FOLDERS)
_OF_MAPS = ".nii.gz"  # of uncertainty and consistency maps beside a folder
_OF_BIDS = (".nii.gz", ".nii")


class OutputPaths(NamedTuple):
    """Files that belong to one case; `image` is a folder where the format is "dicom" or "png"."""

    image: Path
    record: Path
    preview: Path
    deviation: Path
    consistency: Path


def output_paths(directory: str | Path, stem: str, postfix: str = "sr", extension: str = ".nii.gz") -> OutputPaths:
    """<stem>_<postfix> with .nii.gz, .json, .png, and _std.nii.gz and _consistency.nii.gz for the maps.

    Args:
        directory: The directory of the results.
        stem: The name of the case, without folders or with some.
        postfix: What is appended to it; nothing if empty.
        extension: The extension of the image and the maps; for "dicom" and "png" the image is a folder, and the maps
            are .nii.gz.

    Raises:
        InputError: An extension that cannot be written.
    """
    if extension not in FORMATS:
        raise InputError(f"results are written as {', '.join(FORMATS)}, got {extension!r}")
    base = Path(directory) / f"{stem}_{postfix}" if postfix else Path(directory) / stem
    maps = _OF_MAPS if extension in FOLDERS else extension
    image = base if extension in FOLDERS else Path(f"{base}{extension}")
    return OutputPaths(
        image, *(Path(f"{base}{end}") for end in (".json", ".png", f"_std{maps}", f"_consistency{maps}"))
    )


def case_paths(
    directory: str | Path, source: str | Path, stem: str, postfix: str, extension: str, bids: bool = False
) -> OutputPaths:
    """Return the paths of `output_paths`, or those with the names of BIDS derivatives: sub-01_desc-sr_T1w.nii.gz.

    Raises:
        InputError: An extension that cannot be written, or that BIDS does not have; a source without a BIDS name.
    """
    if not bids:
        return output_paths(directory, stem, postfix, extension)
    check_bids_format(extension)
    return output_paths(directory, bids_stem(source, postfix), "", extension)


def check_bids_format(extension: str) -> None:
    """Raise InputError for a format that BIDS does not have."""
    if extension not in _OF_BIDS:
        raise InputError(f"BIDS names are for {' and '.join(_OF_BIDS)}, got {extension!r}; leave one of the two out")


def refuse_to_replace(paths: OutputPaths, source: str | Path, extension: str = DICOM) -> None:
    """Keep a result from taking the place of its input, of the file of facts beside it (BIDS), or of other files.

    Args:
        paths: The paths of the result.
        source: The input.
        extension: Where the result is a folder, of which kind: of that kind an earlier result may be replaced.

    Raises:
        InputError: If the result has the folder and the name of its input, whatever the extensions; or would be a
            series inside the folder of its input, which then held two; or anything in a folder of slices, which its
            preview would join.
        OutputError: If the result is a folder, and there is one of its name that holds something else.
    """
    given = Path(source)
    if is_folder(paths):
        check_folder(paths.image, replaceable=is_picture_result if extension == PNG else is_derived_series)
    if not str(source):
        return
    result, origin = paths.image.resolve(), given.resolve()
    if given.is_dir():
        if result == origin or (origin in result.parents and (is_folder(paths) or stack_slices(given))):
            raise InputError(f"{paths.image} would be written into its input {given.name}; give another folder")
        return
    if result.parent == origin.parent and split_suffix(given)[0] == _stem_of(paths):
        raise InputError(f"{paths.image} would be named as its input {given.name}; give another folder or name")


def is_folder(paths: OutputPaths) -> bool:
    """Return whether the image is a folder."""
    return paths.record.name == f"{paths.image.name}.json"


def _stem_of(paths: OutputPaths) -> str:
    return paths.record.name.removesuffix(".json")
