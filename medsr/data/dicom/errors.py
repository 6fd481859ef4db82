"""Read damaged files with pydicom safely: bounded memory, no remarks, and an error of one line."""

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
    """A file that never allocates more bytes than it has, whatever length a damaged header states."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._length = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read `size` bytes, or what is left of the file."""
        left = max(self._length - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom's remarks on odd but harmless values off the screen."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    if level == logging.CRITICAL:  # within another such block; setting a level takes a millisecond
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
    """Name the file whose header is damaged; pydicom finds out when it reads it or when a value is first used.

    Raises:
        InputError: Whatever the block raised, but for files that may not be read.
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
