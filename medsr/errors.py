"""Errors that a user can act on: each message is one line that says what was expected, what came and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# A value that a message repeats from a file must neither end the line nor steer the terminal.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class MedsrError(ValueError):
    """The base of all errors that are caused by the input, never by the program.

    Args:
        message: The text of the error. Control characters in it (line breaks in a header value, for instance) are
            replaced by blanks.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(_CONTROLS.sub(" ", message))


class InputError(MedsrError):
    """The error of an image, file or argument that cannot be used as it is."""


class OutputError(MedsrError):
    """The error of a result that cannot be written."""


class GridError(MedsrError):
    """The error of a scale, spacing or affine that does not describe a usable grid."""


@contextmanager
def about(image: Any) -> Iterator[None]:
    """Put the name of the image's file in front of any error of the block, so that a user knows which image failed.

    Args:
        image: A MetaTensor, or a batch of one, whose `meta` names a file. With any other object the error stays as
            it is.

    Raises:
        MedsrError: If the block raises one; the class of the error is kept.
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
