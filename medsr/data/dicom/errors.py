"""Read damaged files with pydicom safely: with bounded memory, without its warnings, and with errors of one line."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medsr.data.volume import one_line
from medsr.errors import InputError


class BoundedFile(io.BufferedReader):
    """A file whose `read` never allocates more bytes than the file has, whatever length a damaged header states."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._length = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Return `size` bytes, or the rest of the file."""
        left = max(self._length - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Suppress messages of pydicom about odd but harmless values."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    if level == logging.CRITICAL:  # inside another such block; setting the level takes a millisecond
        yield
        return
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def header_errors(file: Path) -> Iterator[None]:
    """Turn errors of pydicom into one that names the damaged file; they occur on reading and on first use of a value.

    Raises:
        InputError: If the block raises any error but a PermissionError.
    """
    try:
        with quiet_pydicom():
            yield
    except (InputError, PermissionError):
        raise
    except Exception as error:  # anything from EOFError to NotImplementedError
        raise InputError(
            f"{file}: expected a DICOM image, got a damaged file ({one_line(error)}); copy it again or remove it"
        ) from error
