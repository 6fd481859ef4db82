"""From a dataset folder to the datalist that MONAI trains from, split by subject."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medsr.data.cases import Case, read_folder
from medsr.data.manifests import Manifest, load_manifest
from medsr.errors import InputError, OutputError

# Keys of a Decathlon datalist, which monai.data.load_decathlon_datalist reads by name.
SECTIONS = {"train": "training", "val": "validation", "test": "test"}


def datalist(
    name: str | Path | Manifest,
    root: str | Path,
    *,
    image_key: str = "label",
    relative: bool = False,
    modalities: Iterable[str] | None = None,
    resolutions: Iterable[str] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """The images of a dataset folder by split, ready for a MONAI ``Dataset``.

    Args:
        name: dataset name, path of a manifest, or a manifest.
        root: folder that holds the dataset, in any of the manifest's layouts.
        image_key: key of the HR image; ``label`` because it is the target, and the LR image is simulated.
        relative: give paths relative to ``root`` instead of absolute ones.
        modalities: keep only these contrasts, None for all.
        resolutions: keep only these kinds of target (``isotropic``, ``native``, ``in-plane``), None for all.

    Returns:
        ``{"training": [...], "validation": [...], "test": [...]}``; an item holds the image under
        ``image_key``, its label map under ``segmentation`` if there is one, and ``subject``, ``split``,
        ``modality``, ``resolution``, plus ``licence`` where it differs from file to file. Images of subjects
        that the manifest puts in no split are left out (``medsr data check`` names them).

    Raises:
        InputError: unknown dataset, no such folder, nothing left, or a subject in two splits.
    """
    if image_key in ("segmentation", "subject", "split", "modality", "resolution", "licence"):
        raise InputError(
            f"image key {image_key!r} is taken by another field of the datalist; use another one"
        )
    manifest = name if isinstance(name, Manifest) else load_manifest(name)
    folder = read_folder(manifest, root)
    base = Path() if relative else folder.root.resolve()
    sections: dict[str, list[dict[str, Any]]] = {section: [] for section in SECTIONS.values()}
    kept = set(modalities) if modalities is not None else None
    grids = set(resolutions) if resolutions is not None else None
    for case in folder.cases:
        if case.split is None or (kept is not None and case.modality not in kept):
            continue
        if grids is not None and case.resolution not in grids:
            continue
        sections[SECTIONS[case.split]].append(_item(case, base, image_key))
    if not any(sections.values()):
        raise InputError(
            f"no image of dataset {manifest.name} in {root} is left for the datalist: expected a subject with a "
            f"split, contrast in {sorted(kept) if kept else list(manifest.modality)}"
        )
    assert_patient_wise(sections)
    return sections


def _item(case: Case, base: Path, image_key: str) -> dict[str, Any]:
    item: dict[str, Any] = {image_key: (base / case.path).as_posix()}
    if case.segmentation:
        item["segmentation"] = (base / case.segmentation).as_posix()
    item.update(subject=case.subject, split=case.split, modality=case.modality, resolution=case.resolution)
    if case.record and case.record.licence:
        item["licence"] = case.record.licence
    return item


def assert_patient_wise(sections: dict[str, list[dict[str, Any]]]) -> None:
    """Refuse a datalist in which a subject stands in two splits.

    Raises:
        InputError: names the subject and the splits.
    """
    seen: dict[str, str] = {}
    for section, items in sections.items():
        for item in items:
            other = seen.setdefault(item["subject"], section)
            if other != section:
                raise InputError(
                    f"subject {item['subject']} is in both {other} and {section}: a split by subject "
                    "is required; correct the manifest's split"
                )


def write_datalist(
    name: str | Path | Manifest,
    root: str | Path,
    output: str | Path,
    *,
    image_key: str = "label",
    relative: bool = True,
    modalities: Iterable[str] | None = None,
    resolutions: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Write a Decathlon datalist (JSON) that ``monai.data.load_decathlon_datalist`` reads.

    Args:
        name: see ``datalist``.
        root: see ``datalist``.
        output: JSON file; it appears complete or not at all.
        image_key: see ``datalist``.
        relative: paths relative to ``root``, so that the file can travel with the data.
        modalities: see ``datalist``.
        resolutions: see ``datalist``.

    Returns:
        What was written.

    Raises:
        InputError: see ``datalist``.
        OutputError: the file cannot be written.
    """
    manifest = name if isinstance(name, Manifest) else load_manifest(name)
    sections = datalist(
        manifest, root, image_key=image_key, relative=relative, modalities=modalities, resolutions=resolutions
    )
    document = {
        "name": manifest.name,
        "description": manifest.description,
        "licence": manifest.licence["name"],
        "modality": sorted({item["modality"] for items in sections.values() for item in items}),
        "labels": {str(value): meaning for value, meaning in manifest.labels.items()},
        **sections,
    }
    write_text(output, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return document


def write_text(output: str | Path, text: str) -> None:
    """Write a small text file completely or not at all: to a temporary name first, then renamed.

    Raises:
        OutputError: the folder is missing or not writable, the disk is full.
    """
    output = Path(output).expanduser()
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.", suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes the file private; give it the permissions any other new file would get.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, output)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise OutputError(
            f"cannot write {output}: {error.strerror or error}; name a file in a writable folder"
        ) from error
