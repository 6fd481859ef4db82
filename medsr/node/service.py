"""The whole node: it receives and sends in threads, and enlarges in the main thread, until a signal comes."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from medsr.node.config import NodeConfig
from medsr.node.intake import Intake
from medsr.node.receiver import Receiver
from medsr.node.sender import Sender
from medsr.node.spool import Spool, opened
from medsr.node.worker import Worker

_TURN = 0.2  # seconds between two looks at the queue
_TIDY = 60.0  # seconds between two removals of old jobs
_LAST_WORDS = 10.0  # seconds that the sender has to end

logger = logging.getLogger(__name__)


class _Stopping(BaseException):
    """The exception that a signal raises, a BaseException so that only the node itself catches it."""


def serve(config: NodeConfig, retry_failed: bool = False) -> None:
    """Run a node until SIGTERM or SIGINT; a series that is then being enlarged goes back to the queue.

    Args:
        config: The configuration of the node.
        retry_failed: Whether to put failed jobs back into the queue first.

    Raises:
        MedsrError: If the configuration cannot be carried out.
    """
    stop = threading.Event()
    with _private(), opened(config.queue) as spool, _signals(), _temporary_files(spool):
        if retry_failed:
            logger.info("%d failed job(s) are tried again", spool.retry_failed())
        try:
            _run(spool, config, stop)
        except _Stopping:
            logger.info("stopped")


def _run(spool: Spool, config: NodeConfig, stop: threading.Event) -> None:
    """Run the parts of the node, until a signal interrupts the loop."""
    worker, intake, sender = Worker(spool, config), Intake(spool, config), Sender(spool, config, stop)
    receiver = Receiver(config, intake)
    sender.start()
    listens = f"{config.ae_title} listens on {config.host}:{config.port}, sends to {config.destination}"
    logger.info("%s; %d series in the queue", listens, spool.series)
    tidied = float("-inf")
    try:
        while True:
            if not sender.is_alive():
                raise RuntimeError("the sending thread has ended")
            intake.complete()
            if time.monotonic() - tidied >= _TIDY:
                tidied = time.monotonic()
                spool.expire(config.keep_done_days, config.remember_days, config.keep_failed_days)
            if worker.step():
                sender.wake.set()
            else:
                time.sleep(_TURN)  # not `stop.wait`: see `_signals`
    finally:
        stop.set()
        sender.wake.set()
        worker.give_back()
        receiver.stop()
        sender.join(_LAST_WORDS)


@contextmanager
def _private() -> Iterator[None]:
    """Create files that only the owner can read, and log nothing that a header holds."""
    levels = {"medsr": logging.INFO, "medsr.outputs": logging.CRITICAL, "pydicom": logging.CRITICAL}
    before = {name: logging.getLogger(name).level for name in levels}
    mask = os.umask(0o077)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the worker logs warnings, without what identifies a patient
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
            yield
    finally:
        os.umask(mask)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _temporary_files(spool: Spool) -> Iterator[None]:
    """Keep all temporary files, which may hold pixels, in the queue, where the next start removes them."""
    before, tempfile.tempdir = tempfile.tempdir, str(spool.incoming)
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextmanager
def _signals() -> Iterator[None]:
    """End the block by `_Stopping` at the first signal, and ignore later ones.

    The handler uses no event and no lock. It runs in the main thread between any two instructions; if these hold the
    lock of that event, the handler would wait for ever.
    """
    came: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) == 1:
            raise _Stopping

    previous = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
