"""Networks see [0, 1]; people get their units back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medsr.errors import InputError, about

OFFSET, SCALE = "intensity_offset", "intensity_scale"  # keys of `meta`; plain floats, so that batches collate
METHODS = ("percentile", "minmax", "max")


def intensity_window(image: torch.Tensor, method: str, lower: float, upper: float) -> tuple[float, float]:
    """(offset, scale) that map an image to about [0, 1] as (image - offset) / scale; nothing is clipped.

    Args:
        method: "minmax" (Pham et al. in training), "max" (offset 0; Pham et al. at test) or "percentile"
            (robust to a few bright voxels: `lower` and `upper` percentiles).

    Raises:
        InputError: a constant image, one with NaN or infinity, or one whose maximum is not positive ("max").
    """
    if method not in METHODS:
        raise InputError(f"an intensity method is one of {', '.join(METHODS)}, got {method!r}")
    values = image.detach().cpu().numpy().ravel()
    low, high = float(values.min()), float(values.max())
    if not (isfinite(low) and isfinite(high)):
        raise InputError("the image has voxels that are NaN or infinite; replace them by numbers first")
    if low == high:
        raise InputError(f"the image is constant (every voxel is {low:g}); there is nothing to enhance")
    if method == "max":
        low = 0.0
    if method == "percentile":
        robust_low, robust_high = (float(v) for v in np.percentile(values, [lower, upper]))
        if robust_high > robust_low:  # a nearly empty image keeps its full range
            low, high = robust_low, robust_high
    if high <= low:
        raise InputError(f"the image's maximum is {high:g}; the intensity method 'max' needs a positive one")
    return low, high - low


class NormalizeIntensityRecordedd(MapTransform):
    """Map `keys` to about [0, 1] and record how in their `meta`, for `RestoreIntensityd` to undo.

    An image that carries a record is in its range already (`PrepareVolumed`) and is left alone.

    Args:
        keys: images (C, *spatial), each normalised by its own window unless `reference` is given.
        reference: key of the image whose window all `keys` take; of several, the first that the item has. An
            LR/HR pair shares the LR's window (["image", "label"]), the one at hand when SR is restored.
        method: see `intensity_window`.
        lower: lower percentile, for the method "percentile".
        upper: upper percentile.
        allow_missing_keys: skip absent keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        reference: str | Sequence[str] | None = None,
        method: str = "percentile",
        lower: float = 0.0,
        upper: float = 99.9,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.references = [reference] if isinstance(reference, str) else list(reference or ())
        self.method = method
        self.lower = lower
        self.upper = upper

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with normalised images.

        Raises:
            InputError: see `intensity_window`; or none of the reference images is there.
        """
        result = dict(data)
        shared = None
        if self.references:
            present = [key for key in self.references if key in data]
            if not present:
                raise InputError(f"the item has no image {' or '.join(map(repr, self.references))} to normalise by")
            shared = self._window(data[present[0]])
        for key in self.key_iterator(result):
            image = result[key]
            if SCALE in getattr(image, "meta", {}):
                continue
            offset, scale = shared or self._window(image)
            normalized = (image.float() - offset) / scale
            if isinstance(normalized, MetaTensor):
                normalized.meta[OFFSET], normalized.meta[SCALE] = offset, scale
            result[key] = normalized
        return result

    def _window(self, image: torch.Tensor) -> tuple[float, float]:
        with about(image):
            return intensity_window(image, self.method, self.lower, self.upper)


class RestoreIntensityd(MapTransform):
    """Undo `NormalizeIntensityRecordedd`: `keys` get the units back that `source` had.

    Args:
        keys: images to restore, e.g. the prediction.
        source: key of the image whose `meta` holds the record.
        deviation: True for maps of spread (a standard deviation): scaled, not offset.
        allow_missing_keys: skip absent keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        source: str = "image",
        deviation: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.source = source
        self.deviation = deviation

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with restored images.

        Raises:
            InputError: `source` carries no record.
        """
        result = dict(data)
        meta = getattr(data[self.source], "meta", {})
        if SCALE not in meta:
            raise InputError(f"{self.source!r} has no recorded intensity; put NormalizeIntensityRecordedd before")
        for key in self.key_iterator(result):
            offset, scale = (_per_channel(meta[name], result[key]) for name in (OFFSET, SCALE))
            result[key] = result[key] * scale + (0.0 if self.deviation else offset)
        return result


def _per_channel(recorded: Any, image: torch.Tensor) -> float | torch.Tensor:
    """A recorded number for all channels of (C, *spatial), or one for each."""
    if not isinstance(recorded, (list, tuple)):
        return float(recorded)
    values = torch.tensor([float(value) for value in recorded], dtype=image.dtype, device=image.device)
    return values.reshape(-1, *[1] * (image.ndim - 1))
