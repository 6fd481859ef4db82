"""Make the datalist of a dataset folder, split by subject, from which MONAI trains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medsr.data.contrasts import in_order
from medsr.datasets.dataset_folder import DatasetImage, Folder, read_folder
from medsr.datasets.manifest import Manifest
from medsr.datasets.manifest_files import load_manifest
from medsr.errors import InputError
from medsr.files.atomic import write_json_atomic

# The keys of a Decathlon datalist, which monai.data.load_decathlon_datalist reads by name.
SECTIONS = {"train": "training", "val": "validation", "test": "test"}
RESOLUTIONS = ("isotropic", "native", "in-plane")
_RESERVED = ("segmentation", "subject", "split", "modality", "resolution", "licence", "preparation")

Sections = dict[str, list[dict[str, Any]]]


def datalist(
    name: str | Path | Manifest,
    root: str | Path,
    *,
    image_key: str = "label",
    relative: bool = False,
    modalities: Iterable[str] | None = None,
    resolutions: Iterable[str] | None = None,
) -> Sections:
    """Return the images of a dataset folder by split, ready for a MONAI ``Dataset``.

    Args:
        name: The name of the dataset, the path of a manifest, or a manifest.
        root: The folder with the dataset, in any of the manifest's layouts.
        image_key: The key of the HR image; ``label`` because it is the target, and the LR image is simulated.
        relative: Whether paths are relative to ``root`` instead of absolute.
        modalities: The contrasts to keep, None for all.
        resolutions: The kinds of target to keep (``isotropic``, ``native``, ``in-plane``), None for all.

    Returns:
        ``{"training": [...], "validation": [...], "test": [...]}``. An item has the image under ``image_key``, its
        label map under ``segmentation`` if there is one on disk, ``subject``, ``split``, ``modality`` and
        ``resolution``, ``licence`` if it differs from file to file, and ``preparation`` if the manifest has one (for
        ``medsr.transforms.PrepareVolumed``). If the manifest joins contrasts to channels, the image is a list of files.
        Images of subjects that the manifest puts in no split are omitted (``medsr data check`` counts them).

    Raises:
        InputError: If the dataset is unknown, the folder does not exist, there are two copies of one image, a channel
            is missing, or no image is left.
    """
    manifest = name if isinstance(name, Manifest) else load_manifest(name)
    folder = read_folder(manifest, root)
    return datalist_of(
        manifest,
        folder,
        image_key=image_key,
        relative=relative,
        modalities=modalities,
        resolutions=resolutions,
    )


def datalist_of(
    manifest: Manifest,
    folder: Folder,
    *,
    image_key: str = "label",
    relative: bool = False,
    modalities: Iterable[str] | None = None,
    resolutions: Iterable[str] | None = None,
) -> Sections:
    """Return the datalist of a folder that has been read already; see ``datalist`` for arguments, result and errors."""
    if image_key in _RESERVED:
        raise InputError(f"image key {image_key!r} is another field of the datalist; choose another key")
    kept = _chosen("contrast", modalities, manifest.modality)
    grids = _chosen("resolution", resolutions, RESOLUTIONS)
    if folder.duplicates:
        first, second = folder.duplicates[0]
        raise InputError(f"{first} and {second} are two copies of one image; remove one of them")
    incomplete = manifest.split.incomplete(folder.subjects)
    if incomplete:
        raise InputError(f"{folder.root}: {incomplete}; complete the folder")
    base = Path() if relative else folder.root.resolve()
    absent = set(folder.missing)
    images = [image for image in folder.images if image.split and image.modality in kept and image.resolution in grids]
    channels = tuple(name for name in manifest.channels if name in kept)
    sections: Sections = {section: [] for section in SECTIONS.values()}
    for group in _joined(images, channels):
        item = _item(group, base, image_key, absent)
        if manifest.preparation:
            item["preparation"] = dict(manifest.preparation)
        sections[SECTIONS[item["split"]]].append(item)
    if not any(sections.values()):
        raise InputError(
            f"no image of {folder.root} is left for the datalist of {manifest.name}: expected one whose "
            f"subject is in a split, with contrast {' or '.join(kept)} and resolution {' or '.join(grids)}; "
            "choose others"
        )
    assert_patient_wise(sections)
    shared = manifest.split.validate_on_test
    sections["validation"] += [{**item, "split": "val"} for item in sections["test"] if item["subject"] in shared]
    return sections


def _joined(images: list[DatasetImage], channels: tuple[str, ...]) -> list[list[DatasetImage]]:
    """Return the images one by one, or if contrasts become channels, the images of each scan in the channels' order.

    Raises:
        InputError: If a scan lacks one of the channels or has two files of one.
    """
    if len(channels) < 2:
        return [[image] for image in images]
    scans: dict[tuple[tuple[str, str], ...], dict[str, DatasetImage]] = {}
    for image in images:
        told = {**image.entities, "subject": str(image.subject)}  # listed files have no entities
        scan = tuple(sorted((name, value) for name, value in told.items() if name != "modality"))
        other = scans.setdefault(scan, {}).setdefault(image.modality, image)
        if other is not image:
            raise InputError(f"{other.path} and {image.path} are both {image.modality} of one scan; remove one of them")
    return in_order(scans.values(), channels, "complete the dataset")


def _chosen(what: str, wanted: Iterable[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    if wanted is None:
        return known
    wanted = tuple(wanted)
    unknown = [value for value in wanted if value not in known]
    if unknown:
        raise InputError(f"unknown {what} {unknown[0]!r}: expected {', '.join(known)}; choose one of them")
    return wanted


def _item(images: list[DatasetImage], base: Path, image_key: str, absent: set[str]) -> dict[str, Any]:
    """Return the item of one image, which has one file, or several files as its channels."""
    image = images[0]
    paths = [(base / one.path).as_posix() for one in images]
    item: dict[str, Any] = {image_key: paths if len(paths) > 1 else paths[0]}
    if image.segmentation and image.segmentation not in absent:
        item["segmentation"] = (base / image.segmentation).as_posix()
    modality = "+".join(one.modality for one in images)
    item.update(subject=image.subject, split=image.split, modality=modality, resolution=image.resolution)
    if image.listed and image.listed.licence:
        item["licence"] = image.listed.licence
    return item


def assert_patient_wise(sections: Mapping[str, Iterable[Mapping[str, Any]]], shared: Iterable[str] = ()) -> None:
    """Refuse a datalist in which a subject is in two sections.

    Such a datalist is made by a manifest that demands it (``validate_on_test``), or by editing a datalist by hand.

    Args:
        sections: A mapping from the name of a section to its items, each with a ``subject``.
        shared: The subjects that a manifest both validates on and tests (``SplitRule.validate_on_test``).

    Raises:
        InputError: If a subject is in two sections; the message names the subject and the sections.
    """
    seen: dict[str, str] = {}
    leaks = {(subject, section) for subject in shared for section in ("validation", "test")}
    for section, items in sections.items():
        for item in items:
            if (item["subject"], section) in leaks:
                continue
            other = seen.setdefault(item["subject"], section)
            if other != section:
                raise InputError(
                    f"subject {item['subject']} is in {other} and in {section}: a network would be tested on "
                    "someone it was trained on; split by subject"
                )


def write_datalist(manifest: Manifest, sections: Sections, output: str | Path, *, overwrite: bool = True) -> None:
    """Write a Decathlon datalist (JSON) that ``monai.data.load_decathlon_datalist`` reads.

    Args:
        manifest: The dataset.
        sections: The sections from ``datalist``, with relative paths if the file is to be moved with the data.
        output: The file, which appears complete or not at all.
        overwrite: Whether an existing file is replaced.

    Raises:
        InputError: If a subject is in two sections.
        OutputError: If the file cannot be written.
    """
    assert_patient_wise(sections, manifest.split.validate_on_test)
    document = {
        "name": manifest.name,
        "description": manifest.description,
        "licence": manifest.licence["name"],
        "citation": list(manifest.citation),
        "modality": sorted({item["modality"] for items in sections.values() for item in items}),
        "labels": {str(value): meaning for value, meaning in manifest.labels.items()},
        "intensity": manifest.intensity,
        "degradation": manifest.degradation,
        **sections,
    }
    write_json_atomic(output, document, overwrite=overwrite)
