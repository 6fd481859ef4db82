"""LR images made from HR ones by a degradation, and the interpolation that restore networks start from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform, Transform
from monai.utils import ensure_tuple

from medsr import degradation as degradations
from medsr.degradation import Degradation
from medsr.errors import GridError, InputError
from medsr.geometry import (
    Scale,
    ScaleLike,
    anatomical_axis,
    as_scale,
    divisible_shape,
    exact_scale,
    format_scale,
    relative_sampling,
    shifted_affine,
    source_positions,
)
from medsr.interpolation import Matrix, apply_matrices, kernel_matrix, resize

LR_SCALE = "lr_scale"  # key of `meta`: scale per axis from this image to its HR counterpart, as text "2,5/2,1"


def as_degradation(description: Degradation | str | Mapping[str, Any]) -> Degradation:
    """A degradation object from itself, its registered name, or its dictionary."""
    if isinstance(description, str):
        return degradations.get(description)
    if isinstance(description, Mapping):
        return degradations.from_dict(description)
    return description


def scale_text(scale: Scale) -> str:
    """Exact text of a scale that survives collation and JSON: "2,5/2,1"."""
    return ",".join(str(s) for s in scale)


def scale_from_text(text: str) -> Scale:
    """Inverse of `scale_text`."""
    return as_scale(text.split(","), len(text.split(",")))


class SimulateLowResolutiond(Transform):
    """Make the LR image of an HR one; the HR image is cropped so that its size divides by the scale.

    Args:
        hr: key of the HR image (C, *spatial), a MetaTensor; cropped centrally to the divisible size.
        lr: key under which the LR image is stored. An item that has it already (a real pair) is left alone.
        degradation: object, registered name, or dictionary.
        scale: SR scale, or None to take it from the item.
        scale_key: key of the scale in the item.
        seed: of the degradation's noise, if it has any; None draws a new one each time.
        plane: "axial", "coronal" or "sagittal" for networks of slices: one number as the scale of a volume means
            within the slices of this plane, and is put into the item as one number an axis.
        also: keys of images on the HR grid, such as label maps, that are cropped with it; absent ones are skipped.
    """

    def __init__(
        self,
        hr: str = "label",
        lr: str = "image",
        degradation: Degradation | str | Mapping[str, Any] = "gaussian-blur",
        scale: ScaleLike | None = None,
        scale_key: str = "scale",
        seed: int | None = None,
        plane: str | None = None,
        also: KeysCollection = (),
    ) -> None:
        self.hr = hr
        self.lr = lr
        self.degradation = as_degradation(degradation)
        self.scale = scale
        self.scale_key = scale_key
        self.seed = seed
        self.plane = plane
        self.also = ensure_tuple(also)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the LR image added.

        Raises:
            GridError: no scale was given, or the image is too small for it.
        """
        result = dict(data)
        if self.lr in result:
            return result
        scale = result.get(self.scale_key) if self.scale is None else self.scale
        if scale is None:
            raise GridError(f"no scale: set it on the transform or as {self.scale_key!r} in the datalist")
        hr: MetaTensor = result[self.hr]
        size = tuple(hr.shape[1:])
        per_axis = self._per_axis(scale, hr)
        exact = as_scale(per_axis, len(size), size)
        hr = centre_crop(hr, divisible_shape(size, exact))
        for key in self.also:
            if key in result:
                result[key] = centre_crop(result[key], hr.shape[1:])
        generator = None if self.seed is None else torch.Generator(hr.device).manual_seed(self.seed)
        values = self.degradation(hr.as_tensor()[None].float(), exact, generator=generator)[0]
        affine = self.degradation.lr_affine(hr.affine.numpy(), tuple(hr.shape[1:]), exact)
        lr = MetaTensor(values, meta=dict(hr.meta))
        lr.affine = torch.as_tensor(affine)
        lr.meta[LR_SCALE] = scale_text(exact)
        lr.meta["spatial_shape"] = tuple(values.shape[1:])
        result[self.hr], result[self.lr] = hr, lr
        if self.plane is not None:
            result[self.scale_key] = per_axis
        return result

    def _per_axis(self, scale: ScaleLike, hr: MetaTensor) -> ScaleLike:
        """The scale along the array axes, where one number means within slices."""
        if self.plane is None or hr.ndim != 4 or (hasattr(scale, "__len__") and not isinstance(scale, str)):
            return scale
        per_axis: list[Any] = [scale] * 3
        per_axis[anatomical_axis(hr.affine.numpy(), self.plane)] = 1
        return per_axis


class InterpolateToReferenced(MapTransform):
    """Put LR images on the grid of their HR reference: the input of a restore network.

    The affines say where the HR voxels lie on the LR grid, so a real pair need not be cropped to match, and
    LR images of a degradation with another alignment than the grid rule's end where they belong. Axes must be
    parallel. Images that are on the grid already keep their values.

    Args:
        keys: LR images (C, *spatial).
        reference: key of the HR image.
        kernel: see `medsr.interpolation`.
        output_suffix: appended to the key of the result; empty replaces the LR image.
        allow_missing_keys: skip absent keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        reference: str = "label",
        kernel: str = "spline3",
        output_suffix: str = "",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.reference = reference
        self.kernel = kernel
        self.output_suffix = output_suffix

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the enlarged images.

        Raises:
            InputError: HR is coarser than LR, or reaches beyond it by more than an LR voxel.
            GridError: the axes of the two are not parallel.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            lr, hr = result[key], result[self.reference]
            values = lr.as_tensor()[None].float()
            size = tuple(hr.shape[1:])
            scale = pair_scale(lr, hr)
            if on_grid_rule(lr, hr, scale):
                enlarged = resize(values, scale, new_shape=size, kernel=self.kernel)[0]
            else:
                enlarged = apply_matrices(values, self._matrices(lr, hr))[0]
            image = MetaTensor(enlarged, meta=dict(lr.meta))
            image.affine = hr.affine.clone()
            image.meta["spatial_shape"] = size
            image.meta.pop(LR_SCALE, None)
            result[f"{key}{self.output_suffix}"] = image
        return result

    def _matrices(self, lr: MetaTensor, hr: MetaTensor) -> list[Matrix | None]:
        matrices: list[Matrix | None] = []
        sampling = relative_sampling(lr.affine.numpy(), hr.affine.numpy(), hr.shape[1:])
        for n, m, (start, step) in zip(lr.shape[1:], hr.shape[1:], sampling, strict=True):
            positions = start + step * np.arange(m, dtype=np.float64)
            if positions[0] < -1 or positions[-1] > n:
                raise InputError(
                    f"HR voxels lie at LR index {positions[0]:.1f} to {positions[-1]:.1f} on some axis, but "
                    f"LR voxels at 0 to {n - 1}; crop the HR image to the field of view of the LR image"
                )
            matrices.append(kernel_matrix(positions, n, self.kernel))
        return matrices


def pair_scale(lr: MetaTensor, hr: MetaTensor) -> Scale:
    """The scale from an LR image to its HR counterpart, both (C, *spatial).

    As recorded by the simulation; else the ratio of the voxel sizes; where the affines are the same although
    the sizes differ, and so say nothing (pictures without a voxel size), the ratio of the sizes.

    Raises:
        InputError: the HR image is coarser on some axis.
        GridError: axes that are not parallel.
    """
    recorded = lr.meta.get(LR_SCALE)
    if recorded:
        return scale_from_text(recorded)
    if _affines_say_nothing(lr, hr):
        scale = tuple(Fraction(m, n) for m, n in zip(hr.shape[1:], lr.shape[1:], strict=True))
    else:
        sampling = relative_sampling(lr.affine.numpy(), hr.affine.numpy(), hr.shape[1:])
        scale = tuple(exact_scale(1 / step, n) for (_, step), n in zip(sampling, lr.shape[1:], strict=True))
    if any(s < 1 for s in scale):
        raise InputError(
            "the HR image must not be coarser than the LR image on any axis, but the scale between them is "
            f"{format_scale(scale)}; exchange the two"
        )
    return scale


def on_grid_rule(lr: MetaTensor, hr: MetaTensor, scale: Scale) -> bool:
    """Whether LR and HR begin at the same edges and `scale` relates them, to a thousandth of an LR voxel."""
    if _affines_say_nothing(lr, hr):
        return True
    sampling = relative_sampling(lr.affine.numpy(), hr.affine.numpy(), hr.shape[1:])
    for m, s, (start, step) in zip(hr.shape[1:], scale, sampling, strict=True):
        first, last = source_positions([0, m - 1], s)
        if max(abs(start - first), abs(start + step * (m - 1) - last)) > 1e-3:
            return False
    return True


def _affines_say_nothing(lr: MetaTensor, hr: MetaTensor) -> bool:
    return lr.shape[1:] != hr.shape[1:] and bool(torch.equal(lr.affine, hr.affine))


def contrast(image: torch.Tensor) -> float:
    """Largest standard deviation of a channel of (C, *spatial): that channels differ from one another says nothing."""
    return max(float(channel.std()) for channel in image)


def centre_crop(image: MetaTensor, size: Sequence[int]) -> MetaTensor:
    """(C, *spatial) cropped centrally to `size`, the affine following."""
    start = [(n - m) // 2 for n, m in zip(image.shape[1:], size, strict=True)]
    if not any(start) and tuple(image.shape[1:]) == tuple(size):
        return image
    return crop(image, start, size)


def crop(image: MetaTensor, start: Sequence[int], size: Sequence[int]) -> MetaTensor:
    """(C, *spatial) from index `start`, the affine following."""
    window = (slice(None), *(slice(a, a + m) for a, m in zip(start, size, strict=True)))
    result = MetaTensor(image.as_tensor()[window].contiguous(), meta=dict(image.meta))
    result.affine = torch.as_tensor(shifted_affine(image.affine.numpy(), list(start)))
    result.meta["spatial_shape"] = tuple(size)
    return result


class RandScaled(RandomizableTransform):
    """Draw the scale of a training item from a list (multi-scale training, Pham et al. section 4).

    An item that has a scale keeps it.

    Args:
        scales: list of scales, each one number or one per axis.
        weights: relative frequencies; equal by default.
        key: where the scale is put.
    """

    def __init__(self, scales: Sequence[ScaleLike], weights: Sequence[float] | None = None, key: str = "scale") -> None:
        super().__init__(1.0)
        self.scales = list(scales)
        frequencies = [1.0] * len(self.scales) if weights is None else [float(w) for w in weights]
        if not self.scales or len(frequencies) != len(self.scales):
            raise InputError(
                f"expected one weight per scale, got {len(self.scales)} scales, {len(frequencies)} weights"
            )
        if min(frequencies) < 0 or sum(frequencies) <= 0:
            raise InputError(f"weights of scales must not be negative, nor all zero, got {frequencies}")
        self.probabilities = [w / sum(frequencies) for w in frequencies]
        self.key = key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with a scale."""
        result = dict(data)
        if self.key not in result:
            result[self.key] = self.scales[int(self.R.choice(len(self.scales), p=self.probabilities))]
        return result
