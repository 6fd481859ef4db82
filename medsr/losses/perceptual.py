"""Perceptual losses: distances between the features that a fixed network computes for SR and HR."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.losses.judge import DISTANCES, FeatureNetwork, as_judge


class PerceptualLoss(nn.Module):
    """A weighted sum of distances between the features of SR and HR (Johnson et al. 2016; Ledig et al. 2017, eq. 5).

    The loss is the sum over taps i of w_i d(phi_i(SR), phi_i(HR)), where d is the mean absolute or squared difference.
    The network is given as an object, not as a file: `VGG19Features` with "conv5_4" (before the activation, as in
    ESRGAN and in the dissertation's VGG54), "relu5_4" (after it) or "conv2_2" (the dissertation's VGG22). The encoder
    of a trained `SegmentationUNet`, "E1" to "E5", needs no third-party weights.

    The network is a fixed judge: its parameters get no gradient and keep their `requires_grad`, HR is passed without
    gradient, and batch normalisation uses the statistics of its training.

    Args:
        network: The network whose `features` are compared. It is not registered as a submodule, so that `parameters()`
            and `state_dict()` of the loss stay empty.
        taps: The names of the features to compare, as the network knows them.
        weights: One factor per tap; 1 each by default. Taps of weight 0 are not computed.
        distance: The distance between features, "l1" or "mse".
        batch_statistics: Whether the network runs in training mode; batch normalisation then uses the statistics of
            the current batch (and its running statistics drift).

    Raises:
        MedsrError: If the distance is unknown, there are no taps, or the weights do not fit them.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        taps: Sequence[str] = ("conv5_4",),
        weights: Sequence[float] | None = None,
        distance: str = "mse",
        batch_statistics: bool = False,
    ) -> None:
        super().__init__()
        factors = [1.0] * len(taps) if weights is None else [float(w) for w in weights]
        if distance not in DISTANCES or not taps or len(factors) != len(taps):
            raise MedsrError(
                f"expected one or more taps with a weight each and a distance of {', '.join(DISTANCES)}; got "
                f"{list(taps)}, {weights}, {distance!r}"
            )
        if network is None:  # a config that names no feature bundle gives None
            raise MedsrError("expected a network whose features are compared, got none; name a feature_bundle")
        self.judge = [network]  # a list keeps it unregistered: neither trained nor saved with the loss
        self.weights = dict(zip(taps, factors, strict=True))
        self.distance = distance
        self.batch_statistics = batch_statistics

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        """Return the loss of SR and HR images, both (B, C, *spatial) with intensities about [0, 1], as a scalar.

        Raises:
            MedsrError: If the network does not have one of the taps.
        """
        with as_judge(self.judge[0], sr.device, self.batch_statistics):
            return self.judged(sr, hr)

    def judged(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        """Return the loss; the network is already frozen by `as_judge`."""
        return self.features_apart(sr, hr, [tap for tap, weight in self.weights.items() if weight])

    def features_apart(self, sr: torch.Tensor, hr: torch.Tensor, taps: Sequence[str]) -> torch.Tensor:
        """Return the weighted sum of the distances between SR and HR at the given taps."""
        total = sr.new_zeros(())
        if not taps:
            return total
        seen = self.judge[0].features(sr, taps)
        with torch.no_grad():
            wanted = self.judge[0].features(hr, taps)
        for tap in taps:
            total = total + self.weights[tap] * DISTANCES[self.distance](seen[tap], wanted[tap])
        return total
