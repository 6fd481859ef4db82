"""One-line messages instead of tracebacks for the mistakes of users in runs of engines."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from ignite.engine import Engine
from tqdm import tqdm

from medsr.errors import MedsrError

_IGNITE = "ignite.engine.engine"  # ignite's engines log to children of this logger, one for each class


def user_error(error: BaseException | None) -> MedsrError | None:
    """Return the `MedsrError` that caused an exception, or None."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, MedsrError):
            return error
        seen.add(id(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def run(engine: Engine) -> None:
    """Run an engine, and exit with status 1 and one line on standard error if the input is at fault."""
    try:
        with _quiet_about_user_errors(engine):
            engine.run()
    except Exception as error:
        cause = user_error(error)
        if cause is None:
            raise
        _end_progress_bars()
        sys.exit(_line(cause))


def report_user_errors() -> None:
    """Make every uncaught exception that is the fault of the input end the program with one line.

    It is for the `initialize` section of a config: datasets are built and networks are loaded before `run`, where
    MONAI wraps errors in its own. Errors of the program itself keep their traceback; the exit status is 1 in any case.
    """
    if sys.excepthook is not _excepthook:
        sys.excepthook = _excepthook


def _excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    cause = user_error(error)
    if cause is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        print(_line(cause), file=sys.stderr)


def _end_progress_bars() -> None:
    """Close progress bars that the engine left open, because they do not end their line and write again at exit."""
    for bar in list(getattr(tqdm, "_instances", [])):
        bar.close()


def _line(error: MedsrError) -> str:
    return f"medsr: error: {error}"


@contextmanager
def _quiet_about_user_errors(engine: Engine) -> Iterator[None]:
    """Suppress ignite's log of user errors, which are reported in one line anyway."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith(_IGNITE)]  # also of validators
    loggers = {id(log): log for log in (engine.logger, *map(logging.getLogger, names))}
    for log in loggers.values():
        log.addFilter(_without_user_errors)
    try:
        yield
    finally:
        for log in loggers.values():
            log.removeFilter(_without_user_errors)


def _without_user_errors(record: logging.LogRecord) -> bool:
    return user_error(sys.exc_info()[1]) is None
