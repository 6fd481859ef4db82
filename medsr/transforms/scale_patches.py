"""Training patches for networks of any scale; the LR patches equal those of the whole simulated image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any, NamedTuple

from monai.data import MetaTensor
from monai.transforms import RandomizableTransform

from medsr.degradation import Degradation
from medsr.errors import InputError
from medsr.geometry import as_scale, output_shape
from medsr.transforms.grid_operations import Symmetry, crop, mirrored
from medsr.transforms.pairs import Lattice
from medsr.transforms.patches import crop_aligned, turned
from medsr.transforms.places import InformativePlaces
from medsr.transforms.simulation import SimulateLowResolutiond

MARGIN = 4  # LR voxels: beyond the reach of every registered degradation but the splines', whose memory fades


def patch_sizes(size: int, scale: Fraction) -> tuple[int, int]:
    """Return the LR and HR sides of a training patch of about `size` HR voxels (Zhu 2022, equation 4.18).

    LR = floor(size / s) and HR = LR * s, rounded as everywhere in this package; the equation truncates. The author's
    program makes HR patches by resampling a crop of `size` voxels; here HR voxels are those of the image.

    Raises:
        InputError: If the patch has no LR voxel.
    """
    lr = int(size / scale)
    if lr < 1:
        raise InputError(f"a patch of {size} HR voxels has no LR voxel at scale {scale}; choose larger patches")
    return lr, output_shape((lr,), (scale,))[0]


class _Window(NamedTuple):
    """The HR voxels along one axis from which LR voxels are simulated, and the start of the patch within them."""

    start: int  # HR, in the image
    length: int  # HR; the scale divides it
    lead: int  # LR voxels before the patch
    hr_lead: int  # the same length in HR voxels, a whole number


@lru_cache(maxsize=1024)
def _windows(n: int, scale: Fraction, size: int, context: int) -> tuple[_Window, ...]:
    """Return the places of a patch along an axis of n HR voxels where no LR voxel of it is changed by the crop.

    Either there are `context` LR voxels between the patch and the cut, or the image ends there and nothing is cut.
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
            found.append(_Window(start, length, lead, lead // q * p))
    return tuple(found)


def _least(scale: Fraction, size: int, context: int) -> int:
    """Return the smallest number of HR voxels along an axis that holds a patch."""
    lr, hr = patch_sizes(size, scale)
    p, q = scale.numerator, scale.denominator
    return hr if scale == 1 else -(-(lr + context) // q) * p


class RandScalePatchd(RandomizableTransform):
    """A transform that cuts a random HR patch of `patch_sizes` and simulates its LR patch, at the item's scale.

    The patch begins anywhere in the image, and its first LR voxel begins at the same edge. The LR voxels are simulated
    from the patch with a margin, so that they equal those of the whole simulated image (on that lattice), without
    artefacts at the borders of patches. Images that are too small for the margin are mirrored at their far edges.

    An item that already has an LR image (a real pair) can only have the scale of the pair: both images are cropped at
    the same place, and that scale replaces the item's. A batch has one scale, so pairs of different scales need
    batches of size one.

    Args:
        lr: The key under which the LR patch is stored.
        hr: The key of the HR image (C, *spatial), which the patch replaces.
        size: The largest size of the patch in HR voxels along every axis; see `patch_sizes`.
        degradation: The degradation: an object, a registered name, or a dictionary.
        scale_key: The key of the item's scale, one number (exact as a text such as "23/10") or one per axis.
        context: The margin in LR voxels.
        minimum_deviation: The standard deviation of the HR patch below which another place is drawn.
        tries: The number of draws before an empty patch is accepted.
        permute: Whether to draw one of the symmetries of the cube too (flips and permutations of axes).
    """

    def __init__(
        self,
        *,
        lr: str = "image",
        hr: str = "label",
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
        self.lr, self.hr = lr, hr
        self.size = size
        self.simulate = SimulateLowResolutiond(lr=lr, hr=hr, degradation=degradation, scale_key=scale_key)
        self.scale_key = scale_key
        self.context = context
        self.places = InformativePlaces(minimum_deviation, tries)
        self.permute = permute

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the pair.

        Raises:
            InputError: If the patch has no LR voxel, or LR and HR of a pair are not aligned.
            GridError: If there is no scale, or it is below 1.
        """
        if self.lr in data:
            return self._of_pair(data)
        image: MetaTensor = data[self.hr]
        ndim = image.ndim - 1
        scale = as_scale(data.get(self.scale_key, 0), ndim)
        if self.permute:
            image = Symmetry.drawn(self.R, ndim).of(image)
        image = mirrored(image, [_least(s, self.size, self.context) for s in scale])
        windows = [_windows(n, s, self.size, self.context) for n, s in zip(image.shape[1:], scale, strict=True)]
        lr_size, hr_size = zip(*(patch_sizes(self.size, s) for s in scale), strict=True)

        def hr_patch(place: list[int]) -> MetaTensor:
            chosen = [options[k] for options, k in zip(windows, place, strict=True)]
            return crop(image, [w.start + w.hr_lead for w in chosen], hr_size)

        place, _ = self.places.draw(self.R, [len(options) for options in windows], hr_patch)
        chosen = [options[k] for options, k in zip(windows, place, strict=True)]
        whole = crop(image, [w.start for w in chosen], [w.length for w in chosen])
        pair = self.simulate({self.hr: whole, self.scale_key: [str(s) for s in scale]})
        hr = crop(pair[self.hr], [w.hr_lead for w in chosen], hr_size)
        lr = crop(pair[self.lr], [w.lead for w in chosen], lr_size)
        return {**data, self.hr: hr, self.lr: lr}

    def _of_pair(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return patches of a real pair, about as large as `patch_sizes` says."""
        lattice = Lattice.of_pair(data[self.lr], data[self.hr])
        size = []  # HR voxels that are whole LR voxels, within the image
        for s, n in zip(lattice.scale, data[self.lr].shape[1:], strict=True):
            units = max(1, min(patch_sizes(self.size, s)[0], n) // s.denominator)
            size.append(units * s.numerator)
        if any(m > n for m, n in zip(size, lattice.limits, strict=True)):
            raise InputError(
                f"an image of {lattice.limits} voxels is too small for patches of {tuple(size)}; take smaller ones"
            )
        result = crop_aligned(data, self.lr, self.hr, lattice, size, partial(self.places.draw, self.R))
        scale = lattice.scale
        if self.permute:
            symmetry = Symmetry.drawn(self.R, len(scale))
            result = turned(result, self.lr, self.hr, scale, symmetry)
            scale = symmetry.permuted(scale)
        result[self.scale_key] = [str(s) for s in scale]
        return result
