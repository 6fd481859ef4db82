"""The handler that loads the weights of a bundle."""

from __future__ import annotations

from ignite.engine import Engine, Events
from torch import nn

from medsr.weights import load_weights


class StrictCheckpointLoader:
    """A handler that loads weights when an engine starts, and refuses unusable files with one-line errors.

    Unlike MONAI's `CheckpointLoader` it checks the hash recorded beside the file, executes nothing in the file, and
    requires every key to fit.

    Args:
        load_path: The file of weights.
        network: The network that receives the weights.
    """

    def __init__(self, load_path: str, network: nn.Module) -> None:
        self.load_path = load_path
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Register the handler with an engine."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Load the weights into the network.

        Raises:
            InputError: If the file is missing, changed or damaged, or does not fit the network.
        """
        load_weights(self.network, self.load_path)
