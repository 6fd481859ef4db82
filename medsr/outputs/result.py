"""Collect everything about one image that is saved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from monai.data import MetaTensor

from medsr.data.provenance import Provenance
from medsr.data.volume import CHANNEL_FILES
from medsr.geometry import Grid
from medsr.inferers import InferenceFacts
from medsr.transforms.intensity import OFFSET, SCALE


@dataclass
class Result:
    """A result to be saved: the LR image (normalised, with its window) and the SR image in real units.

    Attributes:
        source: The file of the LR image.
        lr_image: The LR image (C, X, Y, Z).
        sr_image: The SR image (C', X, Y, Z); its channels are the first ones of the LR image.
        run: The facts that the inferer reports.
        files: The files of all channels, if this result is one channel of several.
        channel: The index of the channel in that case.
    """

    source: str
    lr_image: MetaTensor
    sr_image: MetaTensor
    run: InferenceFacts
    files: tuple[str, ...] = ()
    channel: int | None = None

    def channels(self) -> list[Result]:
        """Return a result for each channel of the SR image, with its own file; itself if there is only one channel."""
        count = int(self.lr_image.shape[0])
        if count == 1:
            return [self]
        files = tuple(str(file) for file in self.meta.get(CHANNEL_FILES) or [self.source] * count)
        return [self._channel(k, files) for k in range(int(self.sr_image.shape[0]))]

    def _channel(self, k: int, files: tuple[str, ...]) -> Result:
        lr, sr = (MetaTensor(i.as_tensor()[k : k + 1], meta=dict(i.meta)) for i in (self.lr_image, self.sr_image))
        for name in (OFFSET, SCALE):
            if isinstance(lr.meta.get(name), list | tuple):
                lr.meta[name] = float(lr.meta[name][k])
        if k:
            lr.meta.pop("series_uid", None)  # it is the UID of the first file
        run = replace(self.run, deviation=None if self.run.deviation is None else self.run.deviation[k : k + 1])
        return Result(files[k], lr, sr, run, files, k)

    @property
    def meta(self) -> dict[str, Any]:
        """The metadata of the LR image."""
        return self.lr_image.meta

    @property
    def window(self) -> tuple[float, float]:
        """The offset and the scale of the normalisation."""
        return float(self.meta.get(OFFSET, 0.0)), float(self.meta.get(SCALE, 1.0))

    @cached_property
    def normalized(self) -> torch.Tensor:
        """The normalised LR image that the network got, (1, X, Y, Z)."""
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
        """The grid of the LR image."""
        return Grid(tuple(self.lr_image.shape[1:]), self.lr_image.affine.numpy())

    @cached_property
    def sr(self) -> Grid:
        """The grid of the SR image."""
        return Grid(tuple(self.sr_image.shape[1:]), self.sr_image.affine.numpy())

    def provenance_of(self, channel: int) -> Provenance | None:
        """Return the provenance of a channel of the LR image, None if it is not known."""
        entries = Provenance.of(self.meta)
        return entries[channel] if channel < len(entries) else None

    @property
    def series_uid(self) -> str:
        """The SeriesInstanceUID of a DICOM source, else an empty string."""
        return str(self.meta.get("series_uid") or "")
