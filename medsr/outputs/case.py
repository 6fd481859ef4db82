"""What there is to save of one image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from monai.data import MetaTensor

from medsr.geometry import Grid
from medsr.inferers import SuperResolution
from medsr.transforms.intensity import OFFSET, SCALE


@dataclass
class Case:
    """An item as it reaches the saving transform: LR image (normalised, with its window), SR image in real units."""

    source: str
    lr_image: MetaTensor
    sr_image: MetaTensor
    run: SuperResolution

    @property
    def meta(self) -> dict[str, Any]:
        """Of the LR image."""
        return self.lr_image.meta

    @property
    def window(self) -> tuple[float, float]:
        """Offset and scale of the normalisation."""
        return float(self.meta.get(OFFSET, 0.0)), float(self.meta.get(SCALE, 1.0))

    @cached_property
    def normalized(self) -> torch.Tensor:
        """The LR image as the network saw it, (1, X, Y, Z)."""
        return self.lr_image.as_tensor().cpu().float()

    @cached_property
    def lr_values(self) -> torch.Tensor:
        """The LR image in real units, (1, X, Y, Z)."""
        offset, scale = self.window
        return self.normalized * scale + offset

    @cached_property
    def sr_values(self) -> torch.Tensor:
        """The SR image in real units, (1, X, Y, Z)."""
        return self.sr_image.as_tensor().cpu().float()

    @cached_property
    def lr(self) -> Grid:
        """Grid of the LR image."""
        return Grid(tuple(self.lr_image.shape[1:]), self.lr_image.affine.numpy())

    @cached_property
    def sr(self) -> Grid:
        """Grid of the SR image."""
        return Grid(tuple(self.sr_image.shape[1:]), self.sr_image.affine.numpy())

    @property
    def series_uid(self) -> str:
        """Of a DICOM source, else empty."""
        return str(self.meta.get("series_uid") or "")
