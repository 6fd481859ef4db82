"""Plan where the results of many inputs go, and refuse clashes before any network runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from medsr.data.contrasts import contrast_groups
from medsr.data.inference_items import check_format
from medsr.data.input_images import InputImage, find_images
from medsr.errors import InputError, OutputError
from medsr.files.suffixes import PICTURE, split_suffix
from medsr.outputs.naming import EXTENSIONS, FOLDERS, OutputPaths, case_paths, refuse_to_replace


class Job(NamedTuple):
    """One image to enlarge, and the place of its results.

    Attributes:
        image: The image.
        stem: The stem from which the bundle makes the names of the results.
        paths: The paths of the results.
    """

    image: InputImage
    stem: str
    paths: OutputPaths


Case = tuple[Job, ...]  # one image, or the contrasts that the network takes together, in the network's order


@dataclass(frozen=True)
class Plan:
    """The images to enlarge, and the places of their results.

    Attributes:
        cases: The jobs of the cases.
        directory: The folder of the results.
        settings: The entries of the bundle's `inference.json` that the plan needs.
    """

    cases: tuple[Case, ...]
    directory: Path
    settings: dict[str, Any]


@dataclass(frozen=True)
class _Place:
    """The folder, format and names of the results; `name` is the name of a single result if the user chose it."""

    directory: Path
    extension: str
    bids: bool = False
    name: str = ""

    @property
    def postfix(self) -> str:
        """The postfix that the bundle adds to a stem; the bundle itself makes BIDS names."""
        return "sr" if self.bids else ""

    def job(self, image: InputImage) -> Job:
        """Return the job of one image, with the names of its results."""
        stem = self.name or (image.stem if self.bids else f"{image.stem}_sr")
        return Job(image, stem, case_paths(self.directory, image.path, stem, self.postfix, self.extension, self.bids))


def plan_outputs(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    extension: str = ".nii.gz",
    bids: bool = False,
    series: str | None = None,
    contrasts: Sequence[str] | None = None,
) -> Plan:
    """Find the images behind the inputs, name their results, and refuse errors that would show only after the work.

    Args:
        inputs: The image files, folders, archives or lists; see `medsr.data.input_images.find_images`.
        output: A folder, or for one image the name of its result, whose suffix then gives the format.
        extension: The format of the results in a folder: ".nii.gz", ".nii", ".nrrd", ".mha", "dicom" or "png".
        bids: Whether results have the names of BIDS derivatives.
        series: The SeriesInstanceUID to read where an input holds several.
        contrasts: The channels of the bundle's network, as words in the names of files.

    Returns:
        The plan; the folder of the results exists.

    Raises:
        InputError: If there are no images, options contradict each other, the inputs cannot have the format, a result
            would replace an input, or two results would have the same name.
        OutputError: If the folder cannot be written.
    """
    images = find_images(inputs, series=series)
    groups = contrast_groups(images, contrasts) if contrasts else [[image] for image in images]
    place = _place(Path(os.path.abspath(Path(output).expanduser())), extension, bids, [i for g in groups for i in g])
    cases = tuple(tuple(place.job(image) for image in group) for group in groups)
    _check_outputs(place, [job for case in cases for job in case])
    settings: dict[str, Any] = {
        "output_dir": str(place.directory),
        "output_ext": place.extension,
        "output_postfix": place.postfix,
        "bids": bids,
    }
    if series:
        settings["series"] = series
    if contrasts:
        settings["contrasts"] = list(contrasts)
    return Plan(cases, place.directory, settings)


def _place(output: Path, extension: str, bids: bool, images: Sequence[InputImage]) -> _Place:
    """Return the place of the results, after a check that the format suits every input.

    Raises:
        InputError: If the output fits neither a folder nor one result, or the format does not suit an input.
    """
    stem, suffix = split_suffix(output)
    if suffix in EXTENSIONS and not output.is_dir():
        if len(images) > 1:
            raise InputError(f"{output} is one file, but there are {len(images)} inputs; give a folder")
        if bids or extension in FOLDERS:
            what = "--bids names the results" if bids else f"--format {extension} makes a folder"
            raise InputError(f"{output} is a file, but {what}; give a folder to put them in")
        return _Place(output.parent, suffix, name=stem)
    if output.is_file():
        raise InputError(f"{output} is a file, but no image; give a folder, or a name ending in .nii.gz")
    if suffix.lower() in PICTURE and not output.is_dir():
        raise InputError(f"{output}: pictures are written into a folder; give a folder, and --format png")
    for image in images:
        check_format(image, extension)
    return _Place(output, extension, bids)


def _check_outputs(place: _Place, jobs: Sequence[Job]) -> None:
    """Refuse results that would replace an input or one another, and a folder that cannot be written.

    Raises:
        InputError: If a result would replace an input or another result.
        OutputError: If the folder cannot be written.
    """
    inputs = {image.path.resolve() for image, _, _ in jobs}
    taken: dict[Path, Path] = {}
    for image, _, paths in jobs:
        other = taken.setdefault(paths.image, image.path)
        if other != image.path:
            raise InputError(f"{image.path} and {other} would both become {paths.image}; enlarge them separately")
        refuse_to_replace(paths, image.path, place.extension)
        replaced = [path for path in paths if path.resolve() in inputs]
        if replaced:
            raise InputError(f"{replaced[0]} would be a result, but is an input too; give another folder")
    try:
        place.directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place.directory).close()
    except OSError as error:
        raise OutputError(f"{place.directory}: cannot be written: {error.strerror}; choose another folder") from error
