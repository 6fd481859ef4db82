"""Errors in the form that clients of the server get: a status and one line."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from pathlib import Path

from fastapi import HTTPException

from medsr.engines import user_error
from medsr.errors import MedsrError
from medsr.label.public_messages import public

logger = logging.getLogger(__name__)

BAD_REQUEST, NOT_FOUND, FAULT = 400, 404, 500
_PREFIX = "medsr: error: "  # the beginning of the line with which a bundle's program ends


def refusal(error: BaseException, names: Mapping[Path, str], places: Mapping[Path, str] | None = None) -> HTTPException:
    """Return the answer that tells a client about an error.

    Args:
        error: The exception that was raised.
        names: The clients' names of images; see `public`.
        places: The names of folders of the server; see `public`.
    """
    if isinstance(error, HTTPException):
        return error
    mistake: MedsrError | str | None = user_error(error)
    if isinstance(error, SystemExit) and isinstance(error.code, str):
        mistake = error.code.removeprefix(_PREFIX)
    if mistake is not None:
        return HTTPException(BAD_REQUEST, public(str(mistake), names, places))
    # The message is not logged, because it may name a file.
    where = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s, at:\n%s", type(error).__name__, where)
    return HTTPException(FAULT, f"the server failed ({type(error).__name__}); look into its log")
