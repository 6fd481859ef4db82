"""What losses by a fixed feature network share: the network's part, distances between features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F

DISTANCES = {"l1": F.l1_loss, "mse": F.mse_loss}


class FeatureNetwork(Protocol):
    """A network whose features have names, such as `SegmentationUNet` and `VGG19Features`."""

    def features(self, image: torch.Tensor, taps: Sequence[str]) -> dict[str, torch.Tensor]:
        """Features of (B, C, *spatial) by name."""


@contextmanager
def as_judge(network: object, device: torch.device, batch_statistics: bool = False) -> Iterator[None]:
    """The network on the images' device, frozen, in the right mode; afterwards as it was.

    Args:
        network: what is no `nn.Module` is left alone.
        device: of the images.
        batch_statistics: training mode instead of evaluation mode.
    """
    if not isinstance(network, nn.Module):
        yield
        return
    was_training = network.training
    trained = [p for p in network.parameters() if p.requires_grad]
    network.to(device).train(batch_statistics)
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        network.train(was_training)
        for p in trained:
            p.requires_grad_(True)
