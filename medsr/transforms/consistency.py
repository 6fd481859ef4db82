"""Make interpolated images consistent with their formation, as the input of restore networks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import RandomizableTransform

from medsr.degradation import Corruption, Degradation, ExactConsistency, Protocol, as_degradation, mu_of_noise
from medsr.degradation.noise import Noise
from medsr.errors import InputError
from medsr.transforms.pairs import LR_SCALE, pair_scale
from medsr.transforms.simulation import SIMULATED


def formation_of(lr: MetaTensor) -> Degradation:
    """Return the degradation that made a simulated LR image.

    Raises:
        InputError: If the image was not simulated.
    """
    simulated = lr.meta.get(SIMULATED)
    if simulated is None:
        raise InputError(
            "expected a simulated LR image, whose formation is known, got one without it; put SimulateLowResolutiond "
            "before"
        )
    found: Degradation = simulated.degradation
    return found


def noise_of(degradation: Degradation) -> float:
    """Return the standard deviation of the noise of a degradation, as a fraction of the range; 0 without noise."""
    steps: Sequence[Any] = degradation.steps if isinstance(degradation, Protocol) else ()
    sigmas = [step.sigma for step in steps if isinstance(step, Noise) and step.relative]
    others = [step.name for step in steps if isinstance(step, Corruption) and not isinstance(step, Noise)]
    if others:
        raise InputError(f"the size of the noise of {', '.join(others)} is not known; leave it out")
    return float(sum(sigma**2 for sigma in sigmas)) ** 0.5


class ConsistentStartd(RandomizableTransform):
    """Bring a simulated LR image to the grid of its HR image: interpolated, then consistent with its formation.

    The image is what can be known without learning, and the input of restore networks. In a share of the draws the
    formation is withheld and a stated one is assumed in its place, so that one network serves both images of known and
    of unknown formation.

    Args:
        key: The key of the LR image (C, *spatial), which is replaced.
        reference: The key of the HR image.
        kernel: The interpolation kernel; see `medsr.interpolation`.
        withheld: The share of the draws in which the formation is withheld.
        assumed: The formations to assume then, drawn with equal weight.
        noise_spread: The factor by which the assumed size of the noise may be off, either way: at inference it is an
            estimate.

    Raises:
        InputError: If the image was not simulated, or the formation is not separable.
    """

    def __init__(
        self,
        key: str = "image",
        reference: str = "label",
        kernel: str = "spline3",
        withheld: float = 0.0,
        assumed: Sequence[Degradation | str | Mapping[str, Any]] = ("kspace-truncation",),
        noise_spread: float = 1.0,
    ) -> None:
        super().__init__(1.0)
        if not 0 <= withheld <= 1 or noise_spread < 1 or not assumed:
            raise InputError(
                "expected a share between 0 and 1, a spread of at least 1 and a formation to assume, got "
                f"{withheld}, {noise_spread} and {list(assumed)}"
            )
        self.key = key
        self.reference = reference
        self.kernel = kernel
        self.withheld = withheld
        self.assumed = [as_degradation(each) for each in assumed]
        self.noise_spread = noise_spread

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the consistent image on the HR grid."""
        result = dict(data)
        lr, hr = result[self.key], result[self.reference]
        if SIMULATED not in lr.meta and lr.shape == hr.shape:
            return result  # a real LR image that was interpolated already
        formation = formation_of(lr)
        sigma = noise_of(formation)
        if self.withheld and self.R.rand() < self.withheld:
            formation = self.assumed[self.R.randint(len(self.assumed))]
        if self.noise_spread > 1:
            sigma *= self.noise_spread ** self.R.uniform(-1, 1)
        values = lr.as_tensor()[None].float()
        span = float(values.max() - values.min())
        consistency = ExactConsistency(
            formation, hr.shape[1:], lr.shape[1:], pair_scale(lr, hr), mu_of_noise(sigma * span)
        )
        image = MetaTensor(consistency.start(values, self.kernel)[0], meta=dict(lr.meta))
        image.affine = torch.as_tensor(hr.affine).clone()
        image.meta["spatial_shape"] = tuple(hr.shape[1:])
        image.meta.pop(LR_SCALE, None)
        result[self.key] = image
        return result
