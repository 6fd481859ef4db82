"""JPEG compression, as in images exported from microscope viewers and in teaching collections."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from medsr.degradation.base import Corruption, check_image
from medsr.errors import InputError


@dataclass(frozen=True, kw_only=True)
class JpegCompression(Corruption):
    """Compression to 8-bit JPEG and back, for 2D microscopy. It needs Pillow and is not differentiable.

    Attributes:
        quality: The JPEG quality of Pillow, 1 to 95.
        value_range: The intensities that are written as 0 and 255; intensities outside are clipped.
        colour: Whether three channels are compressed as one RGB image (with Pillow's chroma subsampling) instead of
            as three grey images. Leave it off for fluorescence images, whose markers are not colours.
    """

    name: str = "jpeg"
    quality: int = 75
    value_range: tuple[float, float] = (0.0, 1.0)
    colour: bool = False

    def __post_init__(self) -> None:
        low, high = (float(v) for v in self.value_range)
        object.__setattr__(self, "value_range", (low, high))
        if not 1 <= self.quality <= 95:
            raise InputError(f"the quality of JPEG must lie between 1 and 95, got {self.quality}")
        if not low < high:
            raise InputError(f"the value_range of JPEG must be (low, high) with low < high, got ({low}, {high})")

    def __call__(self, image: torch.Tensor, *, generator: torch.Generator | None = None) -> torch.Tensor:
        """Compress and decompress a 2D image (B, C, X, Y); see `Corruption`. Gradients stop here."""
        check_image(image)
        if image.ndim != 4 or (self.colour and image.shape[1] != 3):
            expected = "(B, 3, X, Y)" if self.colour else "(B, C, X, Y)"
            raise InputError(f"JPEG takes 2D images {expected}, got shape {tuple(image.shape)}")
        low, high = self.value_range
        values = image.detach().as_subclass(torch.Tensor).double().cpu().numpy()
        pixels = np.rint(((values - low) * (255 / (high - low))).clip(0, 255)).astype(np.uint8)
        if self.colour:
            coded = np.stack([self._code(np.moveaxis(p, 0, -1)) for p in pixels])
            pixels = np.moveaxis(coded, -1, 1)
        else:
            coded = np.stack([self._code(p) for p in pixels.reshape(-1, *pixels.shape[2:])])
            pixels = coded.reshape(pixels.shape)
        result = torch.from_numpy(pixels.astype(np.float64) * ((high - low) / 255) + low)
        return result.to(device=image.device, dtype=image.dtype)

    def _code(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        try:
            from PIL import Image
        except ImportError:
            raise InputError("degradation 'jpeg' needs Pillow: pip install pillow") from None
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(stream, format="JPEG", quality=self.quality)
        return np.asarray(Image.open(stream))
