"""Run an engine so that a user's mistake ends in one line, not in a traceback."""

from __future__ import annotations

import logging
import sys

from ignite.engine import Engine

from medsr.errors import MedsrError


def user_error(error: BaseException | None) -> MedsrError | None:
    """The `MedsrError` that an exception was caused by, if one was."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, MedsrError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def run(engine: Engine) -> None:
    """Run an engine; exit with status 1 and one line on standard error if the input is at fault."""
    engine.logger.addFilter(_without_user_errors)
    try:
        engine.run()
    except Exception as error:
        cause = user_error(error)
        if cause is None:
            raise
        sys.exit(f"medsr: error: {cause}")
    finally:
        engine.logger.removeFilter(_without_user_errors)


def _without_user_errors(record: logging.LogRecord) -> bool:
    """Ignite logs each exception before raising it; those that are reported in one line need no second."""
    return user_error(sys.exc_info()[1]) is None
