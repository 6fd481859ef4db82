"""Networks of others with their public weights, as judges for losses and metrics."""

from __future__ import annotations

from pathlib import Path

from medsr.errors import InputError
from medsr.networks.inception import InceptionFeatures
from medsr.networks.vgg import VGG19Features
from medsr.weights.catalogue import EXTERNAL
from medsr.weights.loading import load_weights
from medsr.weights.store import find


def vgg19_features(path: str | Path | None = None, normalise: bool = True, colour: bool = False) -> VGG19Features:
    """VGG-19 trained on ImageNet, in evaluation mode and frozen, for `medsr.losses.PerceptualLoss`.

    Args:
        path: Torchvision's file, or one's own of the same keys; by default the imported or cached one.
        normalise: See `VGG19Features`.
        colour: See `VGG19Features`.

    Raises:
        InputError: If there is no such file, with where to get it; or it does not fit.
    """
    network = VGG19Features(normalise, colour)
    load_weights(network, _path("vgg19-imagenet", path))
    return network.requires_grad_(False).eval()


def inception_features(path: str | Path | None = None) -> InceptionFeatures:
    """Return the Inception of 2015, in evaluation mode and frozen, for `medsr.metrics.PooledFeatures(..., "Mixed_7c")`.

    Args:
        path: Pytorch-fid's file; by default the imported or cached one.

    Raises:
        InputError: If there is no such file, with where to get it; or it does not fit.
    """
    network = InceptionFeatures()
    load_weights(network, _path("inception-fid", path))
    return network.requires_grad_(False).eval()


def _path(name: str, given: str | Path | None) -> Path:
    """Return the file given, or the one of the catalogue."""
    if given is None:
        return find(name)
    path = Path(given).expanduser()
    if not path.is_file():
        raise InputError(f"{path} is missing: check the path, or fetch {EXTERNAL[name].source}")
    return path
