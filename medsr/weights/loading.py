"""The one way from a file of weights into a network that runs on images."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from medsr.errors import InputError
from medsr.networks import load_checkpoint
from medsr.weights.hash_file import check_hash


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a weight file: the hash recorded beside it is checked first, nothing in it is executed, every key must fit.

    Raises:
        InputError: A missing, changed, damaged or misfitting file; the message says what to do about it.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"{path} is missing: train the bundle (configs/train.json) or copy its {path.name} there; "
            "medsr weights list says what is where"
        )
    check_hash(path)
    load_checkpoint(network, path)
