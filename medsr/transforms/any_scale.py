"""Training pairs for networks of any scale: the same pipeline for each of them, whatever the scale of the batch."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, RandomizableTransform, Transform

from medsr.degradation import Degradation
from medsr.errors import InputError
from medsr.geometry import as_scale, output_shape
from medsr.transforms.crops import RandPairedCropd, reordered
from medsr.transforms.intensity import StandardizeIntensityRecordedd
from medsr.transforms.pipelines import LoadNormalized, PlainTensorsd, mirrored
from medsr.transforms.simulation import LR_SCALE, SimulateLowResolutiond, contrast, crop, pair_scale, scale_text
from medsr.transforms.slices import CropInformatived, ExtractSliced, RandSliced

_PAIR = ("label", "image")  # HR first: the grid that slices are drawn on
MARGIN = 4  # LR voxels: beyond the reach of every registered degradation but the splines', whose memory fades


def patch_sizes(size: int, scale: Fraction) -> tuple[int, int]:
    """LR and HR sides of a training patch of about `size` HR voxels (Zhu 2022, equation 4.18).

    LR = floor(size / s) and HR = LR * s, rounded as everywhere in this package, where the equation truncates. The
    author's program reaches HR by resampling a crop of `size` voxels; here HR voxels are those of the image.

    Raises:
        InputError: not one LR voxel.
    """
    lr = int(size / scale)
    if lr < 1:
        raise InputError(f"a patch of {size} HR voxels has no LR voxel at scale {scale}; choose larger patches")
    return lr, output_shape((lr,), (scale,))[0]


class _Window(NamedTuple):
    """Along one axis: the HR voxels from which LR ones are simulated, and where in them the patch begins."""

    start: int  # HR, in the image
    length: int  # HR; the scale divides it
    lead: int  # LR voxels before the patch; the scale makes them a whole number of HR voxels


@lru_cache(maxsize=1024)
def _windows(n: int, scale: Fraction, size: int, context: int) -> tuple[_Window, ...]:
    """Every place of a patch along an axis of n HR voxels such that no LR voxel of it feels where the image was cut.

    Either there are `context` LR voxels between patch and cut, or there is no cut because the image ends there.
    """
    p, q = scale.numerator, scale.denominator
    lr, hr = patch_sizes(size, scale)
    margin = 0 if scale == 1 else context
    found = []
    for first in range(n - hr + 1):
        lead = 0 if first == 0 else -(-margin // q) * q
        start = first - lead // q * p
        length = -(-(lead + lr + margin) // q) * p
        if n - start < length and (n - start) % p == 0:
            length = n - start  # to the end of the image, if the patch is whole
        if 0 <= start <= n - length and length // p * q >= lead + lr and length >= lead // q * p + hr:
            found.append(_Window(start, length, lead))
    return tuple(found)


def _least(scale: Fraction, size: int, context: int) -> int:
    """HR voxels that an axis needs for one patch at least."""
    lr, hr = patch_sizes(size, scale)
    p, q = scale.numerator, scale.denominator
    return hr if scale == 1 else -(-(lr + context) // q) * p


class RandScalePatchd(RandomizableTransform):
    """Cut a random HR patch and simulate its LR patch, at the item's scale: patches of `patch_sizes`.

    The patch begins anywhere in the image; LR voxels begin where it begins. They are simulated from the patch with a
    margin, so that they equal those of the image simulated as a whole (on that lattice): there are no artefacts at the
    borders of patches. Images that are too small for the margin are mirrored at their far edges.

    An item that has an LR image already (a real pair) has one scale only, its own: both images are cropped at the same
    place, and that scale replaces the item's. A batch has one scale, so pairs of several scales need batches of one.

    Args:
        hr: key of the HR image (C, *spatial), replaced by the patch.
        lr: key under which the LR patch is stored.
        size: HR voxels of the patch along every axis, at most; see `patch_sizes`.
        degradation: object, registered name, or dictionary.
        scale_key: where the item's scale is, one number (exact as a text such as "23/10") or one an axis.
        context: LR voxels of margin.
        minimum_deviation: standard deviation of the HR patch below which another place is drawn.
        tries: draws before an empty patch is accepted.
        permute: also draw one of the symmetries of the cube (flips and permutations of axes).
    """

    def __init__(
        self,
        hr: str = "label",
        lr: str = "image",
        size: int = 96,
        degradation: Degradation | str | Mapping[str, Any] = "bicubic-binomial",
        scale_key: str = "scale",
        context: int = MARGIN,
        minimum_deviation: float = 0.02,
        tries: int = 20,
        permute: bool = True,
    ) -> None:
        super().__init__(1.0)
        if tries < 1 or size < 1 or context < 0:
            raise InputError(f"expected tries >= 1, size >= 1 and context >= 0, got {tries}, {size} and {context}")
        self.hr, self.lr = hr, lr
        self.size = size
        self.simulate = SimulateLowResolutiond(hr, lr, degradation, scale_key=scale_key)
        self.scale_key = scale_key
        self.context = context
        self.minimum_deviation = minimum_deviation
        self.tries = tries
        self.permute = permute

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the pair.

        Raises:
            InputError: a patch without LR voxels; LR and HR of a pair are not aligned.
            GridError: no scale, or one below 1.
        """
        if self.lr in data:
            return self._of_pair(data)
        result = dict(data)
        image: MetaTensor = result[self.hr]
        ndim = image.ndim - 1
        scale = as_scale(result.get(self.scale_key, 0), ndim)
        if self.permute:
            order = [int(axis) for axis in self.R.permutation(ndim)]
            image = reordered(image, order, [int(axis) for axis in np.flatnonzero(self.R.rand(ndim) < 0.5)])
        image = mirrored(image, [_least(s, self.size, self.context) for s in scale])
        places = [_windows(n, s, self.size, self.context) for n, s in zip(image.shape[1:], scale, strict=True)]
        sides = [patch_sizes(self.size, s) for s in scale]
        hr_size = [hr for _, hr in sides]
        for _ in range(self.tries):
            windows = [options[int(self.R.randint(len(options)))] for options in places]
            leads = [int(w.lead * s) for w, s in zip(windows, scale, strict=True)]
            patch = crop(image, [w.start + k for w, k in zip(windows, leads, strict=True)], hr_size)
            if contrast(patch.as_tensor()) > self.minimum_deviation:
                break
        whole = crop(image, [w.start for w in windows], [w.length for w in windows])
        pair = self.simulate({self.hr: whole, self.scale_key: [str(s) for s in scale]})
        result[self.hr] = crop(pair[self.hr], leads, hr_size)
        result[self.lr] = crop(pair[self.lr], [w.lead for w in windows], [lr for lr, _ in sides])
        return result

    def _of_pair(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Patches of a real pair, about as large as `patch_sizes` says."""
        lr, hr = data[self.lr], data[self.hr]
        scale = pair_scale(lr, hr)
        size = []
        for s, n in zip(scale, lr.shape[1:], strict=True):  # LR voxels that are whole HR voxels, within the image
            q = s.denominator
            size.append(max(1, min(patch_sizes(self.size, s)[0], n) // q) * q)
        cropping = RandPairedCropd(self.lr, self.hr, size, self.minimum_deviation, self.tries)
        cropping.set_random_state(state=self.R)
        result = cropping(data)
        if self.permute:
            order = [int(axis) for axis in self.R.permutation(len(scale))]
            flipped = [int(axis) for axis in np.flatnonzero(self.R.rand(len(scale)) < 0.5)]
            for key in (self.lr, self.hr):
                result[key] = reordered(result[key], order, flipped)
            scale = tuple(scale[axis] for axis in order)
            if LR_SCALE in result[self.lr].meta:
                result[self.lr].meta[LR_SCALE] = scale_text(scale)
        result[self.scale_key] = [str(s) for s in scale]
        return result


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
