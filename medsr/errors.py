"""Errors a user can act on: every message is one line that says what was expected, what came, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# What ends a line, or steers a terminal, in a value that a message repeats from a file.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class MedsrError(ValueError):
    """Base of all errors that are the input's fault, never the program's.

    Args:
        message: control characters in it, such as line breaks in a value of a file's header, become blanks.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(_CONTROLS.sub(" ", message))


class InputError(MedsrError):
    """An image, file or argument cannot be used as it is."""


class OutputError(MedsrError):
    """A result cannot be written."""


class GridError(MedsrError):
    """A scale, spacing or affine does not describe a usable grid."""


@contextmanager
def about(image: Any) -> Iterator[None]:
    """Put the image's file before what is wrong with it: in a folder of images one wants to know which.

    Args:
        image: a MetaTensor, or a batch of one, whose `meta` names a file; others change nothing.

    Raises:
        MedsrError: that of the block, of the same class.
    """
    try:
        yield
    except MedsrError as error:
        names = getattr(image, "meta", {}).get("filename_or_obj")
        if isinstance(names, list | tuple):
            names = names[0] if len(names) == 1 else None
        if not names or str(names) in str(error):
            raise
        raise type(error)(f"{names}: {error}") from error
