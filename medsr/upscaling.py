"""The Python interface: an image in, the same kind of image with more voxels out."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from medsr.bundles import LoadedBundle, find_bundle
from medsr.data.itkfiles import from_sitk, to_sitk
from medsr.errors import GridError, InputError
from medsr.geometry import Grid, ScaleLike
from medsr.runtime import choose_device, keep_freed_memory


class Upscaler:
    """A bundle ready to enlarge images; build it once for many.

    Args:
        bundle: name of an installed bundle, or a bundle's folder.
        scale: enlargement, one number or one per array axis.
        spacing: target voxel size in mm, one number or one per array axis, instead of `scale`.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        settings: further entries of the bundle's `inference.json` to replace.

    Raises:
        GridError: neither or both of `scale` and `spacing`.
        InputError: an unknown bundle, unusable weights or device.
    """

    def __init__(
        self,
        bundle: str | PathLike[str] = "recnn3d",
        *,
        scale: ScaleLike | None = None,
        spacing: float | Sequence[float] | None = None,
        device: str = "auto",
        **settings: Any,
    ) -> None:
        if (scale is None) == (spacing is None):
            raise GridError("give either a scale (2, or one per axis) or a target spacing in mm")
        keep_freed_memory()
        self.bundle = find_bundle(Path(bundle) if isinstance(bundle, PathLike) else bundle)
        self.device = choose_device(device)
        entries = {"scale": scale, "spacing": spacing, "device": self.device, **settings}
        self.loaded: LoadedBundle = self.bundle.parse(entries)

    def __call__(self, image: Any) -> Any:
        """Enlarge one image; see `upscale`."""
        if isinstance(image, str | PathLike):
            return self.loaded.run({"image": str(image)}, save=False)["pred"]
        if isinstance(image, nib.spatialimages.SpatialImage):
            result = self._run(np.asanyarray(image.dataobj), image.affine)
            header = image.header.copy() if isinstance(image, nib.Nifti1Image) else None
            return _as_nifti(result, header)
        if isinstance(image, sitk.Image):
            volume = from_sitk(image)
            result = self._run(volume[0], volume[1])
            return to_sitk(result.as_tensor().numpy()[0], result.affine.numpy())
        if isinstance(image, MetaTensor):
            channels = image if image.ndim == 4 else image[None]
            return self._run(channels.as_tensor()[0].numpy(), image.affine.numpy())
        raise InputError(
            "expected a path, a nibabel or SimpleITK image, or a MetaTensor (1, X, Y, Z); got "
            f"{type(image).__name__}: wrap an array in MetaTensor with its affine"
        )

    def save(self, image: str | PathLike[str], stem: str) -> Path:
        """Enlarge a file and write the result, its record and preview where the bundle's settings say."""
        return Path(self.loaded.run({"image": str(image), "stem": stem}, save=True)["saved"])

    def _run(self, array: np.ndarray, affine: np.ndarray) -> MetaTensor:
        if array.ndim != 3:
            raise InputError(f"expected a 3D image, got {array.ndim} dimensions {array.shape}")
        if np.iscomplexobj(array) or not np.isfinite(array).all():
            raise InputError("expected finite real intensities; the image has NaN, infinite or complex values")
        grid = Grid(array.shape, affine)
        values = torch.as_tensor(np.ascontiguousarray(array, dtype=np.float32))[None]
        tensor = MetaTensor(values, affine=torch.as_tensor(grid.affine))
        result: MetaTensor = self.loaded.run({"image": tensor}, save=False)["pred"]
        return result


def upscale(
    image: Any,
    bundle: str | PathLike[str] = "recnn3d",
    *,
    scale: ScaleLike | None = None,
    spacing: float | Sequence[float] | None = None,
    device: str = "auto",
    **settings: Any,
) -> Any:
    """Enlarge a 3D image with a bundle.

    Args:
        image: path of a NIfTI, NRRD, MetaImage file or DICOM folder, a nibabel or SimpleITK image, or a MetaTensor
            (X, Y, Z) or (1, X, Y, Z) with its affine.
        bundle: name of an installed bundle, or a bundle's folder.
        scale: enlargement, one number or one per array axis.
        spacing: target voxel size in mm, one number or one per array axis, instead of `scale`.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        settings: further entries of the bundle's `inference.json` to replace ("precision", "memory_mb", ...).

    Returns:
        The enlarged image in float32 and the input's intensity units, on the SR grid: a nibabel or SimpleITK image
        for one of those, else a MetaTensor (1, X, Y, Z).

    Raises:
        GridError: an impossible scale or spacing.
        InputError: an image or bundle that cannot be used.
    """
    return Upscaler(bundle, scale=scale, spacing=spacing, device=device, **settings)(image)


def _as_nifti(result: MetaTensor, header: Any) -> nib.Nifti1Image:
    image = nib.Nifti1Image(result.as_tensor().numpy()[0], result.affine.numpy(), header)
    image.set_data_dtype(np.float32)
    image.header.set_slope_inter(1, 0)
    for setter, code in ((image.set_sform, "sform_code"), (image.set_qform, "qform_code")):
        setter(result.affine.numpy(), int(header[code]) if header is not None else 2)
    return image
