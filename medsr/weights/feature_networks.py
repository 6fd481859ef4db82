"""Public networks with their public weights, whose features losses and metrics compare."""

from __future__ import annotations

from pathlib import Path

from medsr.errors import InputError
from medsr.networks.inception import InceptionFeatures
from medsr.networks.vgg import VGG19Features
from medsr.weights.catalogue import EXTERNAL
from medsr.weights.loading import load_weights
from medsr.weights.store import find


def vgg19_features(path: str | Path | None = None, normalise: bool = True, colour: bool = False) -> VGG19Features:
    """Return VGG-19 trained on ImageNet, in evaluation mode and frozen, for `medsr.losses.PerceptualLoss`.

    Args:
        path: The file of torchvision, or another one with the same keys; the imported or cached one by default.
        normalise: The argument of `VGG19Features`.
        colour: The argument of `VGG19Features`.

    Raises:
        InputError: If there is no such file (the message says where to get it), or it does not fit.
    """
    network = VGG19Features(normalise, colour)
    load_weights(network, _path("vgg19-imagenet", path))
    return network.requires_grad_(False).eval()


def inception_features(path: str | Path | None = None) -> InceptionFeatures:
    """Return the Inception network of 2015, frozen, for `medsr.metrics.PooledFeatures(..., "Mixed_7c")`.

    Args:
        path: The file of pytorch-fid; the imported or cached one by default.

    Returns:
        The network in evaluation mode.

    Raises:
        InputError: If there is no such file (the message says where to get it), or it does not fit.
    """
    network = InceptionFeatures()
    load_weights(network, _path("inception-fid", path))
    return network.requires_grad_(False).eval()


def _path(name: str, given: str | Path | None) -> Path:
    """Return the given file, or the one of the catalogue if none is given.

    Raises:
        InputError: If there is no such file.
    """
    if given is None:
        return find(name)
    path = Path(given).expanduser()
    if not path.is_file():
        raise InputError(f"{path} is missing; check the path, or download {EXTERNAL[name].source}")
    return path
