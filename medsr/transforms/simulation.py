"""Simulate LR images from HR images by a degradation, at a given or drawn scale."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import RandomizableTransform, Transform
from monai.utils import ensure_tuple

from medsr.carried import Carried
from medsr.degradation import Degradation, as_degradation
from medsr.errors import GridError, InputError
from medsr.geometry import ScaleLike, anatomical_axis, as_scale, divisible_shape, scale_text
from medsr.transforms.grid_operations import centre_crop
from medsr.transforms.pairs import LR_SCALE

SIMULATED = "simulated"  # key of `meta`
DEGRADATION = "degradation"  # key of an item
FORMATION = "formation"  # key of an item and of `meta`: what an inferer is to be asked for, where it obeys formations


@dataclass(frozen=True, eq=False)
class Simulated(Carried):
    """What made a simulated LR image, kept in its `meta` under `SIMULATED`.

    Attributes:
        degradation: The degradation; of a random one the one that was drawn for this image.
    """

    degradation: Degradation


class SimulateLowResolutiond(Transform):
    """A transform that simulates the LR image of an HR image, first cropped so that the scale divides its size.

    Args:
        lr: The key under which the LR image is stored. An item that already has it (a real pair) stays as it is.
        hr: The key of the HR image (C, *spatial), a MetaTensor; it is cropped centrally to the divisible size.
        degradation: The degradation: an object, a registered name, or a dictionary. An item with an entry
            `degradation` is degraded by that instead; an entry `formation` goes with the LR image to the inferer.
        scale: The SR scale, or None to take it from the item.
        scale_key: The key of the scale in the item.
        seed: The seed of the degradation's chance, if it has any; None draws anew each time, by torch's generator.
        plane: The plane of the slices ("axial", "coronal" or "sagittal") for networks of slices. A single number as
            the scale of a volume then applies within the slices, and the item receives one number per axis.
        keys: The keys of other images on the HR grid, such as label maps, to crop alike; absent keys are skipped.

    Examples:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> from medsr.transforms import SimulateLowResolutiond
        >>> simulate = SimulateLowResolutiond(degradation="gaussian-blur", scale=2)
        >>> item = simulate({"label": MetaTensor(torch.rand(1, 33, 32, 16), affine=torch.eye(4))})
        >>> tuple(item["label"].shape), tuple(item["image"].shape)
        ((1, 32, 32, 16), (1, 16, 16, 8))
        >>> item["image"].pixdim.tolist()
        [2.0, 2.0, 2.0]
    """

    def __init__(
        self,
        *,
        lr: str = "image",
        hr: str = "label",
        degradation: Degradation | str | Mapping[str, Any] = "gaussian-blur",
        scale: ScaleLike | None = None,
        scale_key: str = "scale",
        seed: int | None = None,
        plane: str | None = None,
        keys: KeysCollection = (),
    ) -> None:
        self.lr = lr
        self.hr = hr
        self.degradation = as_degradation(degradation)
        self.scale = scale
        self.scale_key = scale_key
        self.seed = seed
        self.plane = plane
        self.keys = ensure_tuple(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the LR image added.

        Raises:
            GridError: If no scale was given, or the image is too small for it.
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
        for key in self.keys:
            if key in result:
                result[key] = centre_crop(result[key], hr.shape[1:])
        generator = None if self.seed is None else torch.Generator(hr.device).manual_seed(self.seed)
        degradation = as_degradation(result.pop(DEGRADATION, self.degradation)).draw(exact, generator)
        values = degradation(hr.as_tensor()[None].float(), exact, generator=generator)[0]
        affine = degradation.lr_affine(hr.affine.numpy(), tuple(hr.shape[1:]), exact)
        lr = MetaTensor(values, meta={**hr.meta, SIMULATED: Simulated(degradation)})
        if FORMATION in result:
            lr.meta[FORMATION] = str(result[FORMATION])
        lr.affine = torch.as_tensor(affine)
        lr.meta[LR_SCALE] = scale_text(exact)
        lr.meta["spatial_shape"] = tuple(values.shape[1:])
        result[self.hr], result[self.lr] = hr, lr
        if self.plane is not None:
            result[self.scale_key] = per_axis
        return result

    def _per_axis(self, scale: ScaleLike, hr: MetaTensor) -> ScaleLike:
        """Return the scale along the array axes if one number applies within slices, else the scale itself."""
        if self.plane is None or hr.ndim != 4 or (hasattr(scale, "__len__") and not isinstance(scale, str)):
            return scale
        per_axis: list[Any] = [scale] * 3
        per_axis[anatomical_axis(hr.affine.numpy(), self.plane)] = 1
        return per_axis


class RandScaled(RandomizableTransform):
    """A transform that draws the scale of an item from a list (multi-scale training, Pham et al. section 4).

    An item that already has a scale keeps it.

    Args:
        scales: The scales to draw from, each one number or one per axis.
        weights: The relative frequencies of the scales; equal by default.
        scale_key: The key under which the scale is stored.
    """

    def __init__(
        self, scales: Sequence[ScaleLike], weights: Sequence[float] | None = None, scale_key: str = "scale"
    ) -> None:
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
        self.scale_key = scale_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with a scale."""
        result = dict(data)
        if self.scale_key not in result:
            result[self.scale_key] = self.scales[int(self.R.choice(len(self.scales), p=self.probabilities))]
        return result
