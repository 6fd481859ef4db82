"""Enlarge one image for a client, into the same files that `medsr upscale` and `python -m monai.bundle run` write."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsr.bundle import Bundle, load_bundle
from medsr.files.atomic import write_json_atomic
from medsr.files.suffixes import split_suffix
from medsr.label.parameters import LabelRequest
from medsr.outputs import output_paths

_STEM = "sr"


@dataclass(frozen=True)
class Enlarged:
    """The files of one result, in the folder they were made in.

    Attributes:
        image: The SR image; a folder if it is a DICOM series.
        maps: The maps by their names: "consistency" (on the LR grid), "uncertainty".
        record: The record of how the files were made.
        record_file: The JSON file of the record.
    """

    image: Path
    maps: dict[str, Path]
    record: dict[str, Any]
    record_file: Path


def enlarge(
    bundle: Bundle,
    image: Path,
    request: LabelRequest,
    folder: Path,
    *,
    name: str,
    defaults: Mapping[str, Any] | None = None,
) -> Enlarged:
    """Enlarge an image with a bundle.

    Args:
        bundle: The bundle; its weights are loaded anew, and strictly, for every request.
        image: The file, archive or DICOM folder.
        request: The request of the client.
        folder: The empty folder for the files.
        name: The client's name of the image, for the record.
        defaults: The settings of the server, which the request may replace.

    Raises:
        MedsrError: If the image, the request or the bundle is at fault; see `medsr.upscaling.Upscaler`.
    """
    extension = request.extension_for(image.name)
    switches = {"ensemble": request.uncertainty, "consistency": request.consistency}
    settings = {
        **(defaults or {}),
        **request.settings,
        **{key: True for key, wanted in switches.items() if wanted},
        "output_dir": str(folder),
        "output_ext": extension,
        "output_postfix": "",
        "preview": False,
    }
    load_bundle(bundle, settings).run({"image": str(image), "stem": _STEM}, save=True)
    paths = output_paths(folder, _STEM, "", extension)
    maps = {"consistency": paths.consistency} if request.consistency else {}
    if request.uncertainty:
        maps["uncertainty"] = paths.deviation
    record = json.loads(paths.record.read_text(encoding="utf-8"))
    record["input"]["name"] = name  # the file's name on the server is not for clients
    write_json_atomic(paths.record, record)
    return Enlarged(paths.image, maps, record, paths.record)


def packed(result: Enlarged, stem: str) -> Path:
    """Return one file to send: the SR image, or if there are more files a zip of it with its maps and record.

    Args:
        result: The result, whose files are copied.
        stem: The beginning of the names in a zip.

    Returns:
        A temporary file that only its owner can read; the caller removes it.
    """
    alone = result.image.is_file() and not result.maps
    handle, name = tempfile.mkstemp(prefix="medsr-", suffix=split_suffix(result.image)[1] if alone else ".zip")
    with open(handle, "wb") as target:
        if alone:
            with result.image.open("rb") as source:
                shutil.copyfileobj(source, target)
        else:
            with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
                for file in (result.image, *result.maps.values(), result.record_file):
                    for part in sorted(file.iterdir()) if file.is_dir() else [file]:
                        archive.write(part, f"{stem}_{part.relative_to(result.record_file.parent)}")
    return Path(name)
