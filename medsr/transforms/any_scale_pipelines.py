"""Pipelines from the items of a datalist to the training and validation images of networks of any scale."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Compose, Transform

from medsr.degradation import Degradation
from medsr.geometry import as_scale, scale_text
from medsr.transforms.intensity import StandardizeIntensityRecordedd
from medsr.transforms.pairs import pair_scale
from medsr.transforms.scale_patches import MARGIN, RandScalePatchd
from medsr.transforms.simulation import SimulateLowResolutiond
from medsr.transforms.slice_pipelines import LoadNormalized, PlainTensorsd
from medsr.transforms.slices import CropInformatived, ExtractSliced, RandSliced

_PAIR = ("label", "image")  # HR first: the grid that slices are drawn on


class ArbitraryScaleTraining(Compose):
    """The pipeline to LR and HR patches of random slices at the scale of the batch, for 2D networks of any scale.

    `medsr.engines.ScaledDataset` and `ScaleSampler` give each batch its scale. The results are "image", "label" and
    "scale", an exact text. An item with an LR volume as `image` (the same slices, coarser in plane) gives real pairs at
    the scale of the pair.

    Args:
        patch_size: The largest size of the patches in HR pixels; see `patch_sizes`.
        degradation: The degradation that simulates the LR patches.
        plane: The anatomical plane of the slices.
        method: The method of normalisation.
        augment: Whether to flip and transpose patches at random.
        context: The margin in LR pixels; see `RandScalePatchd`.
        informative: The intensity that bounds the informative crop from which patches are taken, see
            `CropInformatived`; None takes patches from the whole slice.
        mean: The mean of the training set, subtracted from both images at the end; see
            `StandardizeIntensityRecordedd`.
        std: The standard deviation of the training set, by which both images are divided.

    Attributes:
        before_scale: The transforms that do not need the scale.
        at_scale: The transforms that need the scale.
    """

    scale_key = "scale"

    def __init__(
        self,
        patch_size: int = 96,
        degradation: Degradation | str | Mapping[str, Any] = "bicubic-binomial",
        plane: str = "axial",
        method: str = "minmax",
        augment: bool = True,
        context: int = MARGIN,
        informative: float | None = None,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        sliced = RandSliced(_PAIR, plane, allow_missing_keys=True)
        cropped = [] if informative is None else [CropInformatived(("label",), informative, unless="image")]
        self.before_scale = [*LoadNormalized(method).transforms, sliced, *cropped]
        self.at_scale = [
            RandScalePatchd(size=patch_size, degradation=degradation, context=context, permute=augment),
            StandardizeIntensityRecordedd(_PAIR, mean, std),
            _PairOfScaled(),
        ]
        super().__init__([*self.before_scale, *self.at_scale])


class ArbitraryScaleValidation(Compose):
    """The pipeline to LR and HR images of the middle slice at each item's scale, for 2D networks of any scale.

    Args:
        degradation: The degradation that simulates the LR images.
        plane: The anatomical plane of the slices.
        method: The method of normalisation.
        mean: The mean of the training set; see `ArbitraryScaleTraining`.
        std: The standard deviation of the training set.
    """

    def __init__(
        self,
        degradation: Degradation | str | Mapping[str, Any] = "bicubic-binomial",
        plane: str = "axial",
        method: str = "minmax",
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        super().__init__(
            [
                *LoadNormalized(method).transforms,
                ExtractSliced(_PAIR, plane, allow_missing_keys=True),
                _ScaleOfPair(),
                SimulateLowResolutiond(degradation=degradation, seed=0),
                StandardizeIntensityRecordedd(_PAIR, mean, std),
                _PairOfScaled(),
            ]
        )


class _ScaleOfPair(Transform):
    """A transform that stores the scale of a real pair in its item."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if "image" not in data:
            return dict(data)
        return {**data, "scale": [str(s) for s in pair_scale(data["image"], data["label"])]}


class _PairOfScaled(Transform):
    """A transform that reduces an item to the entries of a batch: plain tensors, and the scale as a text."""

    def __init__(self) -> None:
        self.tensors = PlainTensorsd(("image", "label"))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        image: torch.Tensor = data["image"]
        exact = as_scale(data["scale"], image.ndim - 1)
        text = str(exact[0]) if len(set(exact)) == 1 else scale_text(exact)
        return {**self.tensors(data), "scale": text}
