"""pydicom's remarks kept off the screen, and what it raises turned into one line about the file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medsr.data.volume import one_line
from medsr.errors import InputError


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keeps pydicom's remarks on odd but harmless values off the screen."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def header_errors(file: Path) -> Iterator[None]:
    """Names the file whose header is damaged; pydicom finds out when it reads it or when a value is first used.

    Raises:
        InputError: whatever the block raised, but for files that may not be read.
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
