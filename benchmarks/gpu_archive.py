"""Pack the data, the code and the weights of the plan for a GPU into one small folder."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from benchmarks.gpu_stages import BUNDLES, STARTING, VAL_LIMIT
from medsr.datasets import collect
from medsr.errors import InputError
from medsr.weights import file_sha256

ROOT = Path(__file__).resolve().parents[1]
LEVELS = 2**12 - 1  # of the intensities of an image: their rounding is 83 dB below its range
MB = 1e6
_RUN = """#!/bin/sh
# Train from this folder; see benchmarks/gpu_plan.py. For example: sh run.sh --minutes 9.5 --output OUT
here=$(cd "$(dirname "$0")" && pwd)
PYTHONUNBUFFERED=1 PYTHONPATH="$here/code" exec "${PYTHON:-python3}" -m benchmarks.gpu_plan run --archive "$here" "$@"
"""


def prepare(data: Path, output: Path, wheels: Path | None = None, limit: float = 64) -> str:
    """Pack what a machine needs, and return the sizes in words.

    Args:
        data: The folder of the datasets, or with a `datalist.json`.
        output: The folder to make.
        wheels: The folder of wheels; None if the machine lacks no package.
        limit: The largest size in MB (10^6 bytes).

    Raises:
        InputError: If the folder is in use, data are missing, there is no wheel, or the result is too large.
    """
    if output.exists() and any(output.iterdir()):
        raise InputError(f"expected an absent or empty folder to pack into, got {output}; choose another")
    output.mkdir(parents=True, exist_ok=True)
    for part in ("medsr", "benchmarks", "data_manifests", *(f"bundles/{name}/configs" for name in BUNDLES)):
        ignored = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(ROOT / part, output / "code" / part, ignore=ignored)
    (output / "weights").mkdir()
    for name in STARTING:
        state = torch.load(ROOT / "bundles" / name / "models" / "model.pt", map_location="cpu", weights_only=True)
        half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
        torch.save(half, output / "weights" / f"{name}.pt")  # a start, which the first steps change by more
    if wheels is not None:
        found = sorted(wheels.glob("*.whl"))
        if not found:
            raise InputError(f"expected wheels (*.whl) in {wheels}, got none; download them first")
        (output / "wheels").mkdir()
        for wheel in found:
            shutil.copy2(wheel, output / "wheels")
    _pack_data(data, output / "data.tar.bz2")
    (output / "run.sh").write_text(_RUN, encoding="utf-8")
    files = [path for path in sorted(output.rglob("*")) if path.is_file()]
    sizes: dict[str, float] = {}
    for path in files:
        part = path.relative_to(output).parts[0]
        sizes[part] = sizes.get(part, 0) + path.stat().st_size / MB
    total = sum(sizes.values())
    told = ", ".join(f"{name} {size:.1f}" for name, size in sizes.items())
    if total > limit:
        raise InputError(f"expected at most {limit:g} MB in all, got {total:.1f} MB ({told}); leave something out")
    hashes = {path.relative_to(output).as_posix(): file_sha256(path) for path in files}
    (output / "manifest.json").write_text(json.dumps({"sha256": hashes, "megabytes": sizes}, indent=1) + "\n")
    return f"{output}: {total:.1f} MB ({told})"


def _pack_data(data: Path, archive: Path) -> None:
    """Write the training images of the bundles, and some validation images, under their own names."""
    files: set[Path] = set()
    for bundle in BUNDLES:
        config = json.loads((ROOT / "bundles" / bundle / "configs" / "train.json").read_text(encoding="utf-8"))
        for section, most in (("training", None), ("validation", VAL_LIMIT)):
            for item in collect(data, section, config["manifests"], None, config["where"], most):
                files.update(map(Path, item["label"] if isinstance(item["label"], list) else [item["label"]]))
    listed = data / "datalist.json"  # without one the manifests find the images by their names
    with tarfile.open(archive, "w:bz2") as tar:
        for path in [*sorted(files), *([listed] if listed.is_file() else [])]:
            content = _content(path)
            entry = tarfile.TarInfo(path.resolve().relative_to(data.resolve()).as_posix())
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def _content(path: Path) -> bytes:
    """Return a NIfTI image as integers of few levels, not compressed (the tar is); other files as they are."""
    if not path.name.endswith((".nii", ".nii.gz")):
        return path.read_bytes()
    image = nib.load(path)  # type: ignore[attr-defined]
    stored = np.asanyarray(image.dataobj)  # type: ignore[attr-defined]
    low, high = float(stored.min()), float(stored.max())
    exact = stored.dtype.kind in "iu" and high - low <= LEVELS
    step = 1.0 if exact else (high - low) / LEVELS or 1.0
    levels = np.rint((stored.astype(np.float64) - low) / step)
    levels = levels.astype(np.uint8 if levels.max() < 256 else np.uint16)
    packed = nib.Nifti1Image(levels, image.affine, image.header)  # type: ignore[attr-defined]
    packed.header.set_data_dtype(levels.dtype)
    packed.header.set_slope_inter(step, low)
    return bytes(packed.to_bytes())
