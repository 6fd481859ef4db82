"""Compare a folder with the manifest of its dataset, and report all differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medsr.data.headers import Header, read_header
from medsr.datasets.dataset_folder import DatasetImage, Folder, read_folder
from medsr.datasets.manifest import Manifest
from medsr.datasets.subjects import SPLITS
from medsr.errors import InputError
from medsr.files.hashes import file_sha256
from medsr.files.suffixes import DICOM, IMAGE_SUFFIXES, PICTURE
from medsr.geometry import axis_codes

# Headers store the spacing as float32, and manifests state it with six digits.
_SPACING_TOLERANCE = 1e-3
# A label map is on the image's grid if all its corners are within this distance.
_SAME_GRID_MM = 1e-2

Progress = Callable[[Iterable[DatasetImage]], Iterable[DatasetImage]]


@dataclass(frozen=True)
class Finding:
    """A difference between a folder and its manifest.

    Attributes:
        kind: ``missing``, ``unexpected``, ``duplicate``, ``unreadable``, ``shape``, ``spacing``, ``orientation``,
            ``hash``, ``labels``, ``count``, ``subject`` or ``split``.
        path: The file concerned, relative to the folder; empty if the finding concerns the whole folder.
        message: What was expected and what was found.
        problem: False for a remark that leaves the dataset usable.
    """

    kind: str
    path: str
    message: str
    problem: bool = True

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


@dataclass
class Report:
    """The result of a check.

    Attributes:
        name: The name of the dataset.
        root: The folder.
        layout: The layout of the manifest that the folder has.
        images: The number of images in each split; images in no split are counted under ``none``.
        subjects: The number of subjects in each split.
        checked: What was compared: ``headers``, and ``voxels`` and ``hashes`` if requested.
        findings: All differences from the manifest.
    """

    name: str
    root: Path
    layout: str
    images: dict[str, int]
    subjects: dict[str, int]
    checked: tuple[str, ...]
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no finding is a problem."""
        return not any(finding.problem for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a dictionary of JSON values."""
        return {
            "name": self.name,
            "folder": str(self.root),
            "layout": self.layout,
            "ok": self.ok,
            "images": self.images,
            "subjects": self.subjects,
            "checked": list(self.checked),
            "findings": [vars(finding) for finding in self.findings],
        }


def check_folder(
    manifest: Manifest,
    root: str | Path,
    *,
    full: bool = False,
    hashes: bool = False,
    progress: Progress = iter,
) -> Report:
    """Compare a folder with its manifest.

    Args:
        manifest: The manifest of the dataset.
        root: The folder of the dataset, in any of the manifest's layouts.
        full: Whether to read every voxel too, which finds truncated files, NaN and wrong label values.
        hashes: Whether to compare the sha256 of files for which the manifest states one.
        progress: A function that wraps the iteration over the images, for a progress bar.

    Raises:
        InputError: If the folder does not exist, is empty or fits none of the layouts.
    """
    folder = read_folder(manifest, root)
    report = _summary(manifest, folder, ("headers", *["voxels"] * full, *["hashes"] * hashes))
    report.findings += _names(manifest, folder)
    known = _checksums(manifest, folder) if hashes else {}
    absent, hashed = set(folder.missing), set[str]()
    for image in progress(folder.images):
        files = [image.path]
        if image.segmentation and image.segmentation not in absent:
            files.append(image.segmentation)
        report.findings += _image(manifest, folder, image, files, full)
        if hashes:
            # The contrasts of one subject may share a label map.
            report.findings += [found for path in files if path not in hashed for found in _hash(folder, path, known)]
            hashed.update(files)
    unknown = hashed - set(known)
    if unknown:
        report.findings.append(Finding("hash", "", f"no sha256 is known for {len(unknown)} files", False))
    return report


def _summary(manifest: Manifest, folder: Folder, checked: tuple[str, ...]) -> Report:
    images = Counter(image.split or "none" for image in folder.images)
    pairs = {(image.split or "none", image.subject) for image in folder.images if image.subject}
    subjects = Counter(split for split, _ in pairs)
    keys = [split for split in (*SPLITS, "none") if split in SPLITS or images[split]]
    return Report(
        name=manifest.name,
        root=folder.root,
        layout=folder.layout.name,
        images={key: images[key] for key in keys},
        subjects={key: subjects[key] for key in keys},
        checked=checked,
    )


def _names(manifest: Manifest, folder: Folder) -> list[Finding]:
    """Return the findings that can be made without opening a file."""
    findings = [Finding("missing", path, "expected this file, found none") for path in folder.missing]
    findings += [
        Finding("duplicate", second, f"a second copy of {first}; remove one of them")
        for first, second in folder.duplicates
    ]
    for path in folder.unexpected:
        if path.lower().endswith(IMAGE_SUFFIXES + DICOM + PICTURE):
            findings.append(Finding("unexpected", path, "an image that the manifest does not list"))
        else:
            findings.append(Finding("unexpected", path, "not part of the dataset", problem=False))
    found = folder.subjects
    for subject, split in manifest.split.listed().items():
        if subject not in found and not manifest.files:  # if the files are listed, each missing one is named already
            findings.append(Finding("subject", "", f"no image of subject {subject}, which is in {split}"))
    incomplete = manifest.split.incomplete(found)
    if incomplete:
        findings.append(Finding("split", "", incomplete))
    leaking = sorted(found.intersection(manifest.split.validate_on_test))
    if leaking:
        message = f"in both validation and test, as published: {', '.join(leaking)}; do not choose a network by them"
        findings.append(Finding("split", "", message, problem=False))
    return findings + _counts(manifest, folder)


def _counts(manifest: Manifest, folder: Folder) -> list[Finding]:
    findings = []
    images, needed, complete = len(folder.images), folder.layout.images_expected, manifest.expected.images
    if needed and images != needed:
        findings.append(Finding("count", "", f"expected {needed} images, found {images}"))
    elif complete and images != complete and not manifest.files:
        findings.append(Finding("count", "", f"{images} of the dataset's {complete} images", problem=False))
    left_out = sum(image.split is None for image in folder.images)
    if left_out:
        findings.append(Finding("split", "", f"{left_out} images are in no split of the manifest", False))
    return findings


def _image(manifest: Manifest, folder: Folder, image: DatasetImage, files: list[str], full: bool) -> list[Finding]:
    headers: list[Header] = []
    for path in files:
        try:
            headers.append(read_header(folder.root / path))
        except InputError as error:
            return [Finding("unreadable", path, _without_path(error, folder.root / path))]
    findings = _grid(manifest, image, headers[0])
    if len(headers) > 1 and not headers[0].same_grid(headers[1], _SAME_GRID_MM):
        findings.append(Finding("shape", files[1], f"the label map is not on the grid of its image {image.path}"))
    if full:
        findings += _voxels(manifest, folder, files)
    return findings


def _grid(manifest: Manifest, image: DatasetImage, header: Header) -> list[Finding]:
    """Compare size and spacing with the manifest's values for the file, else with its bounds for the dataset."""
    findings = []
    shape, spacing = header.shape, header.spacing
    known, bounds = image.listed, manifest.expected
    if len(shape) != manifest.dimensions:
        message = f"expected a {manifest.dimensions}D image, got size {_by(shape)}"
        return [Finding("shape", image.path, message)]
    if known and known.shape:
        if shape != known.shape:
            findings.append(Finding("shape", image.path, f"expected {_by(known.shape)}, got {_by(shape)}"))
    elif bounds.shape_min and bounds.shape_max and not _within(shape, bounds.shape_min, bounds.shape_max):
        expected = f"{_by(bounds.shape_min)} to {_by(bounds.shape_max)}"
        findings.append(Finding("shape", image.path, f"expected {expected}, got {_by(shape)}"))
    found = axis_codes(header.affine)
    if bounds.orientation and found != bounds.orientation:
        message = f"expected axes that point to {bounds.orientation}, got {found}"
        findings.append(Finding("orientation", image.path, message))
    if known and known.spacing:
        low = high = known.spacing
    elif bounds.spacing_min and bounds.spacing_max:
        low, high = bounds.spacing_min, bounds.spacing_max
    else:
        return findings
    if not _within(spacing, low, high, _SPACING_TOLERANCE):
        expected = _by(low) if low == high else f"{_by(low)} to {_by(high)}"
        findings.append(Finding("spacing", image.path, f"expected {expected} mm, got {_by(spacing)} mm"))
    return findings


def _voxels(manifest: Manifest, folder: Folder, files: list[str]) -> list[Finding]:
    from medsr.data.readers import read_volume  # imports MONAI, which is too slow if only headers are read

    findings = []
    for path in files:
        try:
            data = read_volume(folder.root / path, luminance=manifest.luminance).data
        except InputError as error:
            findings.append(Finding("unreadable", path, _without_path(error, folder.root / path)))
            continue
        if path != files[0] and manifest.labels:
            strange = sorted(set(np.unique(data).tolist()) - {float(value) for value in manifest.labels})
            if strange:
                shown = ", ".join(f"{value:g}" for value in strange[:5])
                expected = ", ".join(str(value) for value in sorted(manifest.labels))
                findings.append(Finding("labels", path, f"expected the values {expected}, got also {shown}"))
        elif path == files[0] and float(data.min()) == float(data.max()):
            findings.append(Finding("unreadable", path, f"every voxel has the value {float(data.min()):g}"))
    return findings


def _hash(folder: Folder, path: str, known: dict[str, str]) -> list[Finding]:
    if path not in known:
        return []
    try:
        came = file_sha256(folder.root / path)
    except InputError as error:
        return [Finding("unreadable", path, str(error).removeprefix(f"{folder.root / path} "))]
    if came == known[path]:
        return []
    return [Finding("hash", path, f"expected sha256 {known[path][:12]}..., got {came[:12]}...")]


def _checksums(manifest: Manifest, folder: Folder) -> dict[str, str]:
    """Return the sha256 of each file by its path below the folder, from the manifest and the list beside it."""
    base = Path(folder.layout.root)
    known = {}
    for listed in manifest.files:
        if listed.sha256:
            known[(base / listed.path).as_posix()] = listed.sha256
        if listed.segmentation and listed.segmentation_sha256:
            known[(base / listed.segmentation).as_posix()] = listed.segmentation_sha256
    if folder.layout.checksums:
        path = manifest.path.with_name(folder.layout.checksums)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise InputError(
                f"cannot read the checksums {path}: {error.strerror or error}; restore it, or check without hashes"
            ) from error
        for line in lines:
            digest, _, name = line.partition("  ")  # the format of sha256sum
            known[(base / name).as_posix()] = digest
    return known


def _within(values: tuple[float, ...], low: tuple[float, ...], high: tuple[float, ...], tolerance: float = 0.0) -> bool:
    return len(values) == len(low) and all(
        a * (1 - tolerance) <= value <= b * (1 + tolerance) for a, value, b in zip(low, values, high, strict=True)
    )


def _by(values: Iterable[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _without_path(error: InputError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")
