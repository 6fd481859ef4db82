"""The only function that loads weights into a network that runs on images."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from medsr.errors import InputError
from medsr.networks import load_checkpoint
from medsr.weights.hash_file import check_hash


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a weight file into a network.

    The hash recorded beside the file is checked first, nothing in the file is executed, and every key must fit.

    Raises:
        InputError: If the file is missing, changed, damaged or does not fit; the message says what to do.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"{path} is missing; train the bundle (configs/train.json), or copy its {path.name} there "
            "(medsr weights list shows all weight files)"
        )
    check_hash(path)
    load_checkpoint(network, path)
