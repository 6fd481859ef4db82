"""The parts that losses with a fixed feature network share: the frozen network and the distances between features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F

DISTANCES = {"l1": F.l1_loss, "mse": F.mse_loss}


class FeatureNetwork(Protocol):
    """A network that returns features by name, such as `SegmentationUNet` and `VGG19Features`."""

    def features(self, image: torch.Tensor, taps: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the named features of an image (B, C, *spatial)."""


@contextmanager
def as_judge(network: object, device: torch.device, batch_statistics: bool = False) -> Iterator[None]:
    """Freeze a network on the device of the images for the block; restore its mode and `requires_grad` afterwards.

    Args:
        network: The network. An object that is not an `nn.Module` is left as it is.
        device: The device of the images.
        batch_statistics: Whether the network runs in training mode instead of evaluation mode.
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
