"""One forward pass of a network, with its precision and memory layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer

from medsr.errors import InputError

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast_dtype(precision: str) -> torch.dtype | None:
    """Return the autocast type of a precision by name; None for float32.

    Raises:
        InputError: If the name is unknown.
    """
    if precision not in PRECISIONS:
        raise InputError(f"a precision is one of {', '.join(PRECISIONS)}, got {precision!r}")
    return PRECISIONS[precision]


class ForwardInferer(Inferer):
    """An inferer that calls the network once on the whole input, for training patches and images known to fit.

    MONAI's own `amp` option covers CUDA only; this one covers every device. The result is float32.

    Args:
        precision: The autocast precision: "float32" (none), "bfloat16" or "float16".
    """

    def __init__(self, precision: str = "float32") -> None:
        self.dtype = autocast_dtype(precision)

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the network's output for `inputs` (B, C, *spatial)."""
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        with torch.autocast(image.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            output = network(image, *args, **kwargs)
        return output.float() if isinstance(output, torch.Tensor) else output
