"""The inferer that runs a 2D network that does not enlarge on the slices of a volume."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import nn

from medsr.errors import InputError
from medsr.inferers.request_checks import slice_axis


class SliceInferer(Inferer):
    """An inferer that runs a 2D network over all slices of volumes, in batches; images stay on their grid.

    MONAI's `SliceInferer` slices along an array axis that the user must know, and cuts the slices into windows; this
    one finds the plane by anatomy and takes whole slices.

    Args:
        plane: The plane of the slices, "axial", "coronal" or "sagittal"; the array axis follows from the affine.
        batch_size: The number of slices that run together.
    """

    def __init__(self, plane: str = "axial", batch_size: int = 16) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be one or more slices, got {batch_size}")
        self.plane = plane
        self.batch_size = batch_size

    def __call__(  # type: ignore[override]  # a network, not just any callable
        self, inputs: torch.Tensor, network: nn.Module, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Run the network.

        Args:
            inputs: The images, (B, C, *spatial), 2D or 3D; a MetaTensor's affine gives the orientation.
            network: A network that maps (N, C, H, W) to (N, K, H, W).
            args: Not used; accepted because MONAI's engines may pass some.
            kwargs: Not used, like `args`.

        Returns:
            The results, (B, K, *spatial), as a MetaTensor with the input's affine if `inputs` is one.
        """
        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        if plain.ndim == 4:
            result = network(plain)
        else:
            axis = 2 + slice_axis(inputs, self.plane)
            slices = plain.movedim(axis, 1)  # (B, slices, C, H, W)
            parts = [network(part) for part in slices.flatten(0, 1).split(self.batch_size)]
            result = torch.cat(parts).unflatten(0, slices.shape[:2]).movedim(1, axis)
        return MetaTensor(result, meta=inputs.meta) if isinstance(inputs, MetaTensor) else result
