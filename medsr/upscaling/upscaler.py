"""Enlarge one image, and return the same kind of image."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name everyone uses)
import torch
from monai.data import MetaTensor

from medsr.bundle import DEFAULT_BUNDLE, LoadedBundle, find_bundle, load_bundle
from medsr.data.formats.itk_files import from_sitk, to_sitk
from medsr.data.volume import check_dtype, spatial_shape, to_float32
from medsr.errors import GridError, InputError
from medsr.geometry import Grid, ScaleLike
from medsr.runtime import choose_device, keep_freed_memory

_IMAGE = "the image"  # the name in messages of an image without a file
_ALIGNED = 2  # the NIfTI code for an unspecified space


class Upscaler:
    """A loaded bundle that enlarges any number of images.

    Args:
        bundle: The name of an installed bundle, or a bundle's folder.
        scale: The enlargement, one number or one per array axis.
        spacing: The target voxel size in mm, one number or one per array axis, instead of `scale`.
        device: The device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        settings: Further entries of the bundle's `inference.json` to replace.

    Raises:
        GridError: If neither or both of `scale` and `spacing` are given.
        InputError: If the bundle is unknown, or the weights or the device are unusable.
    """

    def __init__(
        self,
        bundle: str | PathLike[str] = DEFAULT_BUNDLE,
        *,
        scale: ScaleLike | None = None,
        spacing: float | Sequence[float] | None = None,
        device: str = "auto",
        **settings: Any,
    ) -> None:
        if (scale is None) == (spacing is None):
            got = "neither" if scale is None else "both"
            raise GridError(f"give either a scale (2, or one per axis) or a target spacing in mm, got {got}")
        keep_freed_memory()
        self.bundle = find_bundle(bundle)
        self.device = choose_device(device)
        entries = {"scale": scale, "spacing": spacing, "device": self.device, **settings}
        self.loaded: LoadedBundle = load_bundle(self.bundle, entries)

    def __call__(self, image: Any) -> Any:
        """Enlarge one image; see `upscale`."""
        if isinstance(image, str | PathLike):
            return self.loaded.run({"image": str(image)}, save=False)["pred"]
        if isinstance(image, nib.spatialimages.SpatialImage):
            check_dtype(image.get_data_dtype(), _IMAGE)
            shape = spatial_shape(image.shape, _IMAGE)
            result = self._run(np.asanyarray(image.dataobj).reshape(shape), image.affine)
            return _as_nifti(result, image.header if isinstance(image, nib.Nifti1Image) else None)
        if isinstance(image, sitk.Image):
            if image.GetDimension() != 3:
                size = f"{image.GetDimension()}D of size {image.GetSize()}"
                raise InputError(f"expected a 3D image, got {size}; pass one volume")
            result = self._run(*from_sitk(image))
            return to_sitk(result.as_tensor().numpy()[0], result.affine.numpy())
        if isinstance(image, MetaTensor):
            return self._run(image.as_tensor().detach().cpu().numpy(), image.affine.numpy())
        raise InputError(
            "expected a path, a nibabel or SimpleITK image, or a MetaTensor (1, X, Y, Z); got "
            f"{type(image).__name__}: wrap an array in MetaTensor with its affine"
        )

    def save(self, image: str | PathLike[str], stem: str) -> Path:
        """Enlarge a file, and write the result, its record and its preview as the settings say.

        Args:
            image: The path of the image.
            stem: The stem of the names of the results.

        Returns:
            The path of the result.
        """
        return Path(self.loaded.run({"image": str(image), "stem": stem}, save=True)["saved"])

    def save_contrasts(self, images: Sequence[str | PathLike[str]], stems: Sequence[str]) -> list[Path]:
        """Enlarge the contrasts of one case, and write a result for each as `save` does.

        Args:
            images: The paths of the contrasts, in the order of the network's channels.
            stems: The stem of the names of the results for each contrast.

        Returns:
            The paths of the results.
        """
        item = {"image": [str(image) for image in images], "stem": list(stems)}
        return [Path(saved) for saved in self.loaded.run(item, save=True)["saved"]]

    def _run(self, array: np.ndarray, affine: np.ndarray) -> MetaTensor:
        """Enlarge an array (X, Y, Z) or (C, X, Y, Z) with its affine.

        Raises:
            InputError: If the array has another number of axes, or cannot be used.
        """
        channels = array if array.ndim == 4 else array[None]
        if channels.ndim != 4:
            raise InputError(f"expected an image (X, Y, Z) or (1, X, Y, Z), got size {array.shape}; reshape it")
        check_dtype(channels.dtype, _IMAGE)
        grid = Grid(channels.shape[1:], affine)
        values = torch.as_tensor(to_float32(channels, _IMAGE, []))
        tensor = MetaTensor(values, affine=torch.as_tensor(grid.affine))
        result: MetaTensor = self.loaded.run({"image": tensor}, save=False)["pred"]
        return result


def upscale(
    image: Any,
    bundle: str | PathLike[str] = DEFAULT_BUNDLE,
    *,
    scale: ScaleLike | None = None,
    spacing: float | Sequence[float] | None = None,
    device: str = "auto",
    **settings: Any,
) -> Any:
    """Enlarge a 3D image with a bundle.

    Args:
        image: The path of a NIfTI, NRRD or MetaImage file or of a DICOM folder, a nibabel or SimpleITK image, or a
            MetaTensor (X, Y, Z) or (1, X, Y, Z) with its affine.
        bundle: The name of an installed bundle, or the folder of a bundle.
        scale: The scale, one number or one per array axis.
        spacing: The target voxel size in mm, one number or one per array axis, instead of `scale`.
        device: The device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        settings: Further entries of the bundle's `inference.json` to replace ("precision", "memory_mb", ...).

    Returns:
        The SR image in float32, in the intensity units of the input and on the SR grid: a nibabel or SimpleITK image
        if the input is one, else a MetaTensor (1, X, Y, Z).

    Raises:
        GridError: If the scale or the spacing is impossible.
        InputError: If the image or the bundle cannot be used.

    Examples:
        >>> import nibabel, numpy, medsr
        >>> lr = nibabel.Nifti1Image(numpy.random.rand(8, 10, 6).astype("float32"), numpy.diag([1, 1, 3, 1]))
        >>> sr = medsr.upscale(lr, bundle="recnn3d", spacing=1.0, device="cpu")
        >>> sr.shape, [float(d) for d in sr.header.get_zooms()]
        ((8, 10, 18), [1.0, 1.0, 1.0])
    """
    return Upscaler(bundle, scale=scale, spacing=spacing, device=device, **settings)(image)


def _as_nifti(result: MetaTensor, header: Any | None) -> nib.Nifti1Image:
    """Return a NIfTI image whose header says as much about its space as that of the input.

    Args:
        result: The SR image, (1, X, Y, Z).
        header: The NIfTI header of the input, or None if it has none.
    """
    affine = result.affine.numpy()
    image = nib.Nifti1Image(result.as_tensor().numpy()[0], affine, None if header is None else header.copy())
    image.set_data_dtype(np.float32)
    image.header.set_slope_inter(1, 0)
    sform, qform = (0, 0) if header is None else (int(header["sform_code"]), int(header["qform_code"]))
    image.set_sform(affine, sform or qform or _ALIGNED)
    image.set_qform(affine, 0 if Grid(result.shape[1:], affine).is_sheared else qform, strip_shears=True)
    return image
