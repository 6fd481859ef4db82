"""Normalise intensities to about [0, 1] for networks, and restore the units of the input in results."""

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
from medsr.former_names import former_arguments

# Keys of `meta`: a plain float for one channel, a list of them for several, so that batches collate.
OFFSET, SCALE = "intensity_offset", "intensity_scale"
METHODS = ("percentile", "minmax", "max")
Window = tuple[float, float]  # offset, scale


def intensity_window(image: torch.Tensor, method: str, lower: float, upper: float) -> Window:
    """Return (offset, scale) that map an image to about [0, 1] as (image - offset) / scale; nothing is clipped.

    Args:
        image: The image, of any shape.
        method: "minmax" (Pham et al. in training), "max" (offset 0; Pham et al. at test) or "percentile"
            (robust to a few bright voxels: `lower` and `upper` percentiles).

    Raises:
        InputError: If the image is constant, has NaN or infinite voxels, or its maximum is not positive ("max").
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


def normalized(image: torch.Tensor, windows: Sequence[Window]) -> torch.Tensor:
    """Return (image - offset) / scale in float32, with the windows recorded in its `meta`.

    Args:
        image: The image (C, *spatial); an image that is not a MetaTensor is normalised without a record.
        windows: One window (offset, scale) for all channels, or one per channel.

    Raises:
        InputError: If there are neither one nor C windows.
    """
    if len(windows) not in (1, image.shape[0]):
        raise InputError(
            f"{len(windows)} channels say how to normalise, but the image has {image.shape[0]}; "
            "give both images the same channels"
        )
    single = len(windows) == 1
    recorded = [windows[0][i] if single else [window[i] for window in windows] for i in (0, 1)]
    offset, scale = (_per_channel(values, image.float()) for values in recorded)
    result = (image.float() - offset) / scale
    if isinstance(result, MetaTensor):
        result.meta[OFFSET], result.meta[SCALE] = recorded
    return result


class NormalizeIntensityRecordedd(MapTransform):
    """A transform that maps `keys` to about [0, 1] and records the windows in `meta` for `RestoreIntensityd`.

    Several channels are contrasts with unrelated units: each channel is mapped by its own window. An image that already
    has a record is in its range (`PrepareVolumed`) and stays as it is.

    Args:
        keys: The keys of images (C, *spatial), each normalised by its own windows unless `reference` is given.
        reference: The key of the image whose windows apply to all `keys`; of several keys, the first that the item has.
            An LR/HR pair shares the window of the LR image (["image", "label"]), which is known when SR is restored.
        method: The method; see `intensity_window`.
        lower: The lower percentile, for the method "percentile".
        upper: The upper percentile.
        allow_missing_keys: Whether to skip absent keys.
        per_channel: False maps all channels by one window, for channels of one unit (the colours of a picture).
    """

    def __init__(
        self,
        keys: KeysCollection,
        reference: str | Sequence[str] | None = None,
        method: str = "percentile",
        lower: float = 0.0,
        upper: float = 99.9,
        allow_missing_keys: bool = False,
        per_channel: bool = True,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.references = [reference] if isinstance(reference, str) else list(reference or ())
        self.method = method
        self.lower = lower
        self.upper = upper
        self.per_channel = per_channel

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with normalised images.

        Raises:
            InputError: If an image has no window (see `intensity_window`), or the reference image is absent or has
                another number of channels.
        """
        result = dict(data)
        shared = None
        if self.references:
            present = [key for key in self.references if key in data]
            if not present:
                raise InputError(f"the item has no image {' or '.join(map(repr, self.references))} to normalise by")
            shared = self._windows(data[present[0]])
        for key in self.key_iterator(result):
            image = result[key]
            if SCALE in getattr(image, "meta", {}):
                continue
            windows = shared or self._windows(image)
            with about(image):
                result[key] = normalized(image, windows)
        return result

    def _windows(self, image: torch.Tensor) -> list[Window]:
        """Return one window for all channels, or one per channel."""
        if not self.per_channel or image.shape[0] == 1:
            with about(image):
                return [intensity_window(image, self.method, self.lower, self.upper)]
        return [self._window_of(image, channel) for channel in range(image.shape[0])]

    def _window_of(self, image: torch.Tensor, channel: int) -> Window:
        """Return the window of one of several channels."""
        try:
            with about(image):
                return intensity_window(image[channel], self.method, self.lower, self.upper)
        except InputError as error:
            raise InputError(f"channel {channel} of {image.shape[0]}: {error}") from error


class StandardizeIntensityRecordedd(MapTransform):
    """A transform that subtracts the mean of the training set, divides by its standard deviation, and records both.

    It follows `NormalizeIntensityRecordedd` and extends its record, so that `RestoreIntensityd` undoes both at once. It
    serves networks trained on such images (Tan et al. 2020, section 4: 0.370 and 0.117 on [0, 1]). The networks of any
    scale have parameters `mean` and `std` instead, which are stored with their weights and keep losses and metrics on
    [0, 1].

    Args:
        keys: The keys of images (C, *spatial) in about [0, 1].
        mean: The mean of the training set.
        std: The standard deviation of the training set.
        allow_missing_keys: Whether to skip absent keys.

    Raises:
        InputError: If the standard deviation is not positive.
    """

    def __init__(
        self, keys: KeysCollection, mean: float = 0.0, std: float = 1.0, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not (isfinite(mean) and isfinite(std) and std > 0):
            raise InputError(f"expected a mean and a positive standard deviation, got {mean} and {std}")
        self.mean, self.std = float(mean), float(std)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with standardised images.

        Raises:
            InputError: If an image has no record to extend.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            meta = getattr(image, "meta", {})
            if SCALE not in meta:
                raise InputError(f"{key!r} has no recorded intensity; put NormalizeIntensityRecordedd before")
            result[key] = (image - self.mean) / self.std
            several = isinstance(meta[SCALE], (list, tuple))
            windows = list(zip(meta[OFFSET], meta[SCALE], strict=True)) if several else [(meta[OFFSET], meta[SCALE])]
            offsets = [offset + self.mean * scale for offset, scale in windows]
            scales = [scale * self.std for _, scale in windows]
            result[key].meta[OFFSET] = offsets if several else offsets[0]
            result[key].meta[SCALE] = scales if several else scales[0]
        return result


class RestoreIntensityd(MapTransform):
    """A transform that undoes `NormalizeIntensityRecordedd`: it gives `keys` the units that `reference` had.

    Args:
        keys: The keys of the images to restore, such as the prediction.
        reference: The key of the image whose `meta` has the record.
        deviation: True for maps of a standard deviation, which are scaled without an offset.
        allow_missing_keys: Whether to skip absent keys.
    """

    @former_arguments(source="reference")
    def __init__(
        self,
        keys: KeysCollection,
        reference: str = "image",
        deviation: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.reference = reference
        self.deviation = deviation

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with restored images.

        Raises:
            InputError: If `reference` has no record.
        """
        result = dict(data)
        meta = getattr(data[self.reference], "meta", {})
        if SCALE not in meta:
            raise InputError(f"{self.reference!r} has no recorded intensity; put NormalizeIntensityRecordedd before")
        for key in self.key_iterator(result):
            offset, scale = (_per_channel(meta[name], result[key]) for name in (OFFSET, SCALE))
            result[key] = result[key] * scale + (0.0 if self.deviation else offset)
        return result


def _per_channel(recorded: Any, image: torch.Tensor) -> float | torch.Tensor:
    """Return the recorded number for all channels of (C, *spatial), or those of its first C channels."""
    if not isinstance(recorded, (list, tuple)):
        return float(recorded)
    kept = recorded[: image.shape[0]]
    values = torch.tensor([float(value) for value in kept], dtype=image.dtype, device=image.device)
    return values.reshape(-1, *[1] * (image.ndim - 1))
