"""The registration of an oracle for its networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Formulation = Callable[[Any], Callable[..., torch.Tensor]]

FORMULATIONS: dict[str, Formulation] = {}  # by class name: from a network to its plain forward pass


def formulation_of(*classes: str) -> Callable[[Formulation], Formulation]:
    """Register a function that maps a network of these classes to its plain pass, with the same parameters."""

    def register(function: Formulation) -> Formulation:
        for name in classes:
            if name in FORMULATIONS:
                raise ValueError(f"{name} already has an oracle in {FORMULATIONS[name].__module__}; keep one of them")
            FORMULATIONS[name] = function
        return function

    return register
