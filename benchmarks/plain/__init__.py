"""Each network once more, literally and unfused: the opponent of the benchmark and an oracle for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.plain.recnn import recnn, srcnn3d

# Class name -> function that takes a network and returns its plain forward pass, on the same parameters.
FORMULATIONS: dict[str, Callable[[Any], Callable[[torch.Tensor], torch.Tensor]]] = {
    "ReCNN": recnn,
    "SRCNN3D": srcnn3d,
}
