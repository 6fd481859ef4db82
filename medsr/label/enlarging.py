"""One image enlarged for a client: the same files that `medsr upscale` and `python -m monai.bundle run` write."""

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
    """Files of one result, in the folder they were made in.

    Attributes:
        image: The SR image; a folder if it is a DICOM series.
        maps: Further images by what they are: "consistency" (on the LR grid), "uncertainty".
        record: How they were made.
        record_file: The same as JSON.
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
        bundle: The weights are loaded strictly, anew for every request: a file that was replaced counts.
        image: The file, archive or DICOM folder.
        request: What the client wants.
        folder: Where files are made; empty.
        name: What the client calls the image, for the record.
        defaults: The settings of the server that the request may replace.

    Raises:
        MedsrError: The image, the request or the bundle is at fault; see `medsr.upscaling.Upscaler`.
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
    record["input"]["name"] = name  # a file's name is the server's own affair
    write_json_atomic(paths.record, record)
    return Enlarged(paths.image, maps, record, paths.record)


def packed(result: Enlarged, stem: str) -> Path:
    """The one file to send: the SR image, or a zip of it with its maps and record if there is more than one file.

    Args:
        result: Its files are copied.
        stem: What the files of a zip are called.

    Returns:
        A temporary file that only its owner can read; whoever sends it removes it.
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
