"""Write the SR image as a DICOM series that is derived from its source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medsr.data.dicom.derived.writing import Processing, check_sources, write_derived_series
from medsr.data.inference_items import NOT_DICOM
from medsr.data.provenance import Provenance
from medsr.errors import InputError
from medsr.outputs.result import Result

# Entries of a record that do not determine the voxels of the result, or follow from the image and the settings.
_CHANGING = ("created", "seconds", "tiles", "warnings", "input", "consistency", "formation", "guards")


def write_series(folder: Path, result: Result, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write the image as a derived series.

    Args:
        folder: The folder to create.
        result: The result, whose source is a DICOM series.
        record: The record of the run. The warnings of the series are appended to its warnings.

    Returns:
        The record's entry for the series: the UIDs of the source and of the result, and how values are stored.

    Raises:
        InputError: If the source is not a DICOM series of modality MR or CT.
        OutputError: If the series cannot be written.
    """
    headers = derivable_headers(result.source, result.meta)
    method = record["method"]
    series = write_derived_series(
        folder,
        result.sr_values.numpy()[0],
        result.sr.affine,
        headers,
        scale=result.run.scale,
        processing=Processing(
            method["bundle"],
            method["version"],
            method["weights_sha256"],
            record["versions"],
            "" if result.run.formation is None else result.run.formation.summary,
        ),
        uid_seed=_seed(result, headers, record),
    )
    record["warnings"].extend(series.warnings)
    return {
        "source_series_uid": series.source_series_uid,
        "series_uid": series.series_uid,
        "images": series.images,
        "rescale_slope": series.slope,
        "rescale_intercept": series.intercept,
    }


def derivable_headers(source: str, meta: Mapping[str, Any]) -> list[Any]:
    """Return the headers of an image after checking that a derived series can be made from them; no file is read.

    Args:
        source: The file, folder or archive, for the message.
        meta: The metadata of the LR image.

    Raises:
        InputError: If the image is not a DICOM series of modality MR or CT.
    """
    headers = [header for entry in Provenance.of(meta)[:1] for header in entry.headers]
    if not headers:
        raise InputError(f"{source or 'the image'}: {NOT_DICOM}")
    try:
        check_sources(headers)
    except InputError as error:  # an error in an archive names a file that the user cannot find
        raise error if source in str(error) else InputError(f"{source}: {error}") from error
    return headers


def _seed(result: Result, headers: list[Any], record: Mapping[str, Any]) -> str:
    """Return a hash of all that determines the image: its sources, their voxels, method, weights, settings, versions.

    The UIDs are hashes of it, so a run that is repeated after a crash makes the same series and not a second one.
    """
    facts = {key: value for key, value in record.items() if key not in _CHANGING}
    facts["settings"] = {
        key: value for key, value in record["settings"].items() if key != "request"
    }  # 2 equals [2, 2, 2]
    facts["method"] = {key: record["method"][key] for key in ("bundle", "version", "weights_sha256")}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for header in headers:
        digest.update(str(header.get("SOPInstanceUID")).encode())
    digest.update(np.ascontiguousarray(result.normalized.numpy()).tobytes())
    return digest.hexdigest()
