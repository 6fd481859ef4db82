"""Read the pixels of DICOM slices in the units that their headers declare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medsr.data.dicom.decoders import stored_frames, transfer_syntax
from medsr.data.dicom.errors import quiet_pydicom
from medsr.data.dicom.planes import Plane
from medsr.data.volume import FLOAT32_EXACT_INTEGER, one_line
from medsr.errors import InputError


def read_pixels(planes: Sequence[Plane], headers: Mapping[Path, Any], warnings: list[str]) -> np.ndarray:
    """Read slices in their real units (HU, scanner units).

    Every slice is rescaled by its own RescaleSlope and RescaleIntercept (PS3.3 C.11.1.1.2). MONOCHROME1 does not invert
    the values, because it states how they are displayed, not what they mean. Padding keeps its value, because no better
    one is known.

    Args:
        planes: The slices in the order of the volume.
        headers: The data set of each file, without pixels.
        warnings: A list of warnings. Notes on padding, on bits beyond BitsStored, and on integers that float32 rounds
            are appended.

    Returns:
        The values, float32 (columns, rows, slices).

    Raises:
        InputError: If the transfer syntax cannot be decoded here, or the pixel data are missing, damaged or cut short.
    """
    rows, columns = planes[0].size
    data = np.empty((columns, rows, len(planes)), dtype=np.float32)
    tally = _Tally()
    by_file: dict[Path, dict[int, int]] = {}
    for index, plane in enumerate(planes):
        by_file.setdefault(plane.file, {})[plane.frame or 0] = index
    for file, places in by_file.items():
        header = headers[file]
        try:
            with quiet_pydicom(), np.errstate(over="ignore", invalid="ignore"):
                for frame, array in stored_frames(file, header, places):
                    plane = planes[places[frame]]
                    stored = tally.clean(array, header)
                    tally.count(stored, plane)
                    data[:, :, places[frame]] = (stored.astype(np.float64) * plane.slope + plane.intercept).T
        except (InputError, PermissionError):
            raise
        except Exception as error:  # the decoders raise anything from AttributeError to MemoryError
            raise InputError(
                f"{file}: expected complete {transfer_syntax(header).name} pixel data, got data that cannot be decoded "
                f"({one_line(error)}); copy the file again or convert the series"
            ) from error
    warnings += tally.notes(data.size)
    return data


class _Tally:
    """A counter of facts that are reported once per series but found slice by slice."""

    def __init__(self) -> None:
        self.excess = self.padded = self.largest = 0

    def clean(self, array: np.ndarray, header: Any) -> np.ndarray:
        """Return the stored values without the bits around them, in which old files stored overlays (PS3.5 8.1.1)."""
        if array.dtype.kind not in "iu":
            return array
        allocated = 8 * array.dtype.itemsize
        stored = int(header.get("BitsStored") or allocated)
        high = int(header.get("HighBit", stored - 1))
        if stored >= allocated:
            return array
        if not 0 < stored <= high + 1 <= allocated:
            raise ValueError(f"{stored} bits stored up to bit {high} of {allocated}")
        # The bits are shifted to the top and back, because a shift to the right repeats the sign of signed values.
        values = (array << (allocated - 1 - high)) >> (allocated - stored)
        if high == stored - 1:
            unsigned = values & ((1 << stored) - 1)
            self.excess += int(((array != values) & (array != unsigned)).sum())
        return values

    def count(self, stored: np.ndarray, plane: Plane) -> None:
        """Count the padding, and find the largest integer."""
        if plane.padding is not None:
            self.padded += int(((stored >= plane.padding[0]) & (stored <= plane.padding[1])).sum())
        if stored.dtype.kind in "iu" and stored.dtype.itemsize > 2 and stored.size:
            self.largest = max(self.largest, abs(int(stored.min())), abs(int(stored.max())))

    def notes(self, voxels: int) -> list[str]:
        """Return one line on each fact that was found."""
        notes = []
        if self.excess:
            notes.append(f"{self.excess} of {voxels} voxels have bits set beyond BitsStored: these bits are dropped")
        if self.padded:
            notes.append(
                f"{self.padded} of {voxels} voxels hold PixelPaddingValue, outside the acquired area: "
                "they keep their value and are enlarged like the others"
            )
        if self.largest > FLOAT32_EXACT_INTEGER:
            notes.append(f"stored values reach {self.largest}: integers above 2^24 are rounded in float32")
        return notes
