"""Images to send to a server, and how to read what comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

SHAPE = (12, 14, 10)


@pytest.fixture(scope="session")
def images(
    tmp_path_factory: pytest.TempPathFactory, phantom: Callable[..., np.ndarray], left_handed_affine: np.ndarray
) -> Path:
    """One oblique left-handed volume as NIfTI, packed NIfTI, NRRD and MetaImage."""
    folder, volume = tmp_path_factory.mktemp("images"), phantom(SHAPE)
    for name in ("plain.nii", "packed.nii.gz"):
        image = nib.Nifti1Image(volume, left_handed_affine)
        image.set_sform(left_handed_affine, 1)
        image.set_qform(left_handed_affine, 1)
        nib.save(image, folder / name)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ left_handed_affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(volume.transpose(2, 1, 0))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    for name in ("scalar.nrrd", "meta.mha"):
        sitk.WriteImage(image, str(folder / name))
    return folder


@pytest.fixture(scope="session")
def read_image() -> Callable[[Path], tuple[np.ndarray, np.ndarray]]:
    """(array as stored, RAS affine) by nibabel or SimpleITK alone."""

    def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
        if path.name.endswith((".nii", ".nii.gz")):
            image = nib.load(path)
            return np.asanyarray(image.dataobj), image.affine
        image = sitk.ReadImage(str(path))
        lps = np.eye(4)
        lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
        lps[:3, 3] = image.GetOrigin()
        return sitk.GetArrayFromImage(image).transpose(2, 1, 0), np.diag([-1.0, -1, 1, 1]) @ lps

    return read


@pytest.fixture(scope="session")
def small_training() -> dict[str, Any]:
    """Entries of a train.json that make it a matter of seconds; a bundle that lacks one ignores it."""
    return {"steps_per_epoch": 2, "batch_size": 1, "val_interval": 1, "patch_size": 16}


@pytest.fixture(scope="session")
def write_hr(phantom: Callable[..., np.ndarray]) -> Callable[[Path, Path, Path], None]:
    """Write an HR volume for an LR image, on the SR grid of a bundle: twice the voxels, or what its network makes."""

    def write(root: Path, image: Path, file: Path) -> None:
        source = nib.load(image)
        config = json.loads((root / "configs" / "inference.json").read_text())
        scale = np.full(3, config.get("network_scale", 2))
        if "plane" in config:  # a network of axial slices
            directions = source.affine[:3, :3] / np.linalg.norm(source.affine[:3, :3], axis=0)
            scale[int(np.abs(directions[2]).argmax())] = 1
        affine = source.affine @ np.diag([*(1 / scale), 1])
        affine[:3, 3] = source.affine[:3, 3] - source.affine[:3, :3] @ ((1 - 1 / scale) / 2)
        shape = tuple(int(s * n) for s, n in zip(scale, source.shape, strict=True))
        nib.save(nib.Nifti1Image(phantom(shape), affine), file)

    return write
