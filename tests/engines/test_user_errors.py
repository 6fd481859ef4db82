"""A user's mistake is one line; a fault of the program is a traceback."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from ignite.engine import Engine, Events

from medsr.engines import report_user_errors, run, user_error
from medsr.errors import GridError, InputError


class Runnable(Engine):
    """MONAI's engines run without arguments."""

    def run(self, *args: Any, **kwargs: Any) -> Any:
        return super().run([0], max_epochs=1)


def runnable(error: BaseException, cause: BaseException | None = None) -> Runnable:
    def process(engine: Engine, batch: Any) -> None:
        raise error from cause

    return Runnable(process)


@pytest.mark.parametrize("wrapped", [False, True])
def test_user_error_ends_in_one_line(wrapped: bool, caplog: pytest.LogCaptureFixture) -> None:
    mistake = InputError("the image is constant; there is nothing to enhance")
    engine = runnable(RuntimeError("applying transform"), mistake) if wrapped else runnable(mistake)
    with caplog.at_level(logging.ERROR), pytest.raises(SystemExit) as ended:
        run(engine)
    assert ended.value.code == "medsr: error: the image is constant; there is nothing to enhance"
    assert not caplog.records  # ignite's own report of the exception
    assert not engine.logger.filters


def test_mistake_found_by_the_validator_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    class Validator(Runnable):
        """Logs under its own name."""

    def process(engine: Engine, batch: Any) -> None:
        raise GridError("no scale")

    validator, trainer = Validator(process), Runnable(lambda engine, batch: None)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: validator.run())
    with caplog.at_level(logging.ERROR), pytest.raises(SystemExit, match="medsr: error: no scale"):
        run(trainer)
    assert not caplog.records
    assert not validator.logger.filters


def test_other_errors_keep_their_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(ZeroDivisionError):
        run(runnable(ZeroDivisionError("a fault")))
    assert "a fault" in caplog.text


def test_good_run_returns() -> None:
    assert run(Runnable(lambda engine, batch: None)) is None


def test_user_error_is_found_behind_others() -> None:
    mistake = InputError("mistake")
    with pytest.raises(RuntimeError) as wrapped:
        raise RuntimeError("wrapped") from mistake
    assert user_error(wrapped.value) is mistake
    handling = KeyError("while handling the mistake")
    handling.__context__ = mistake
    assert user_error(handling) is mistake
    handling.__suppress_context__ = True  # raise ... from None: it was dealt with
    assert user_error(handling) is None
    assert user_error(None) is None


def test_circle_of_causes_ends() -> None:
    circle = RuntimeError("a")
    circle.__cause__ = RuntimeError("b")
    circle.__cause__.__cause__ = circle
    assert user_error(circle) is None


@pytest.fixture
def excepthook() -> Iterator[None]:
    before = sys.excepthook
    yield
    sys.excepthook = before


@pytest.mark.usefixtures("excepthook")
def test_uncaught_user_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    report_user_errors()
    wrapped = RuntimeError("Failed to evaluate")
    wrapped.__cause__ = InputError("the dataset folder x does not exist")
    sys.excepthook(RuntimeError, wrapped, None)
    assert capsys.readouterr().err == "medsr: error: the dataset folder x does not exist\n"
    sys.excepthook(ValueError, ValueError("a fault"), None)
    assert "ValueError: a fault" in capsys.readouterr().err
