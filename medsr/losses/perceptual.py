"""How far apart a fixed network sees two images: perceptual losses on its features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.losses.judge import DISTANCES, FeatureNetwork, as_judge


class PerceptualLoss(nn.Module):
    """A weighted sum of distances between the features of SR and HR (Johnson et al. 2016; Ledig et al. 2017, eq. 5).

    sum over taps i of w_i d(phi_i(SR), phi_i(HR)), d the mean absolute or squared difference. The network is given,
    not read: `VGG19Features` with "conv5_4" (before activation, as ESRGAN and the dissertation's VGG54) or "relu5_4"
    (after), "conv2_2" (its VGG22); or, without anybody's files, the encoder of a trained `SegmentationUNet`, "E1" to
    "E5".

    The network is a fixed judge: its parameters get no gradient and keep their `requires_grad`, HR is passed without
    gradient, and batch normalisation uses the statistics of training.

    Args:
        network: with `features`; it is not a part of this module: what `parameters()` and `state_dict()` give stays
            empty.
        taps: names of features, known to the network.
        weights: a factor for each of `taps`; 1 each by default. Taps of weight 0 are not computed.
        distance: "l1" or "mse".
        batch_statistics: leave the network in training mode: batch normalisation then uses the batch at hand (and its
            running statistics drift).

    Raises:
        MedsrError: unknown distance, or no taps, or weights that do not fit them.
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
        if network is None:  # what configs give that name no bundle
            raise MedsrError("expected a network whose features are compared, got none; name a feature_bundle")
        self.judge = [network]  # in a list, it is not registered: neither trained nor saved with the loss
        self.weights = dict(zip(taps, factors, strict=True))
        self.distance = distance
        self.batch_statistics = batch_statistics

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        """(B, C, *spatial) twice, about [0, 1], to a scalar.

        Raises:
            MedsrError: a tap that the network does not have.
        """
        with as_judge(self.judge[0], sr.device, self.batch_statistics):
            return self.judged(sr, hr)

    def judged(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        """The value, with the network made a judge."""
        return self.features_apart(sr, hr, [tap for tap, weight in self.weights.items() if weight])

    def features_apart(self, sr: torch.Tensor, hr: torch.Tensor, taps: Sequence[str]) -> torch.Tensor:
        """The weighted distances of these taps, summed."""
        total = sr.new_zeros(())
        if not taps:
            return total
        seen = self.judge[0].features(sr, taps)
        with torch.no_grad():
            wanted = self.judge[0].features(hr, taps)
        for tap in taps:
            total = total + self.weights[tap] * DISTANCES[self.distance](seen[tap], wanted[tap])
        return total
