"""The handler that loads the weights of a bundle."""

from __future__ import annotations

from ignite.engine import Engine, Events
from torch import nn

from medsr.weights import load_weights


class StrictCheckpointLoader:
    """Load weights when an engine starts, like MONAI's `CheckpointLoader`, but refuse unusable ones in one line.

    The hash recorded beside the file is checked, nothing in it is executed, every key must fit.

    Args:
        load_path: The file of weights.
        network: The network to fill.
    """

    def __init__(self, load_path: str, network: nn.Module) -> None:
        self.load_path = load_path
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Register on the evaluator."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Load.

        Raises:
            InputError: A missing, changed, damaged or misfitting file.
        """
        load_weights(self.network, self.load_path)
