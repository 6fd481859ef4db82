"""How an oracle says which networks it is of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Formulation = Callable[[Any], Callable[..., torch.Tensor]]

FORMULATIONS: dict[str, Formulation] = {}  # by class name: takes a network, returns its plain forward pass


def formulation_of(*classes: str) -> Callable[[Formulation], Formulation]:
    """Register a function that takes a network of these classes and returns its plain pass, on the same parameters."""

    def register(function: Formulation) -> Formulation:
        for name in classes:
            if name in FORMULATIONS:
                raise ValueError(f"{name} has a plain formulation already, in {FORMULATIONS[name].__module__}")
            FORMULATIONS[name] = function
        return function

    return register
