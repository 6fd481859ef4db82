"""From the items of a datalist to what networks of any scale train and validate on: one pipeline for them all."""

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
    """LR and HR patches of random slices of volumes at the scale of the batch, for 2D networks of any scale.

    For `medsr.engines.ScaledDataset` and `ScaleSampler`, which give each batch its scale. Results are "image", "label"
    and "scale", a text that is exact. An item with an LR volume as `image` (the same slices, coarser in plane) gives
    real pairs, at its own scale.

    Args:
        patch_size: HR pixels at most, see `patch_sizes`.
        degradation: HR to LR.
        plane: anatomical plane of the slices.
        method: of normalisation.
        augment: flip and transpose patches at random.
        context: LR pixels of margin, see `RandScalePatchd`.
        informative: intensity that bounds the informative crop from which patches are taken, see `CropInformatived`;
            None takes them from the whole slice.
        mean: of the training set, taken from both images at the end; see `StandardizeIntensityRecordedd`.
        std: its standard deviation, alike.

    Attributes:
        before_scale: the part that does not need the scale.
        at_scale: the part that does.
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
    """The LR and HR images of the middle slice of volumes at each item's scale, for 2D networks of any scale.

    Args:
        degradation: HR to LR.
        plane: anatomical plane of the slices.
        method: of normalisation.
        mean: of the training set, see `ArbitraryScaleTraining`.
        std: its standard deviation.
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
                SimulateLowResolutiond(degradation=degradation),
                StandardizeIntensityRecordedd(_PAIR, mean, std),
                _PairOfScaled(),
            ]
        )


class _ScaleOfPair(Transform):
    """A real pair has its own scale."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if "image" not in data:
            return dict(data)
        return {**data, "scale": [str(s) for s in pair_scale(data["image"], data["label"])]}


class _PairOfScaled(Transform):
    """Plain tensors and the text of the scale: what a batch is made of."""

    def __init__(self) -> None:
        self.tensors = PlainTensorsd(("image", "label"))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        image: torch.Tensor = data["image"]
        exact = as_scale(data["scale"], image.ndim - 1)
        text = str(exact[0]) if len(set(exact)) == 1 else scale_text(exact)
        return {**self.tensors(data), "scale": text}
