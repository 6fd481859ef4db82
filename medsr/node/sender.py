"""The storage SCU: a derived series to the destination, again and again while that is away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tenacity
from pydicom import uid
from pynetdicom import AE

from medsr.node.config import NodeConfig
from medsr.node.receiver import set_timeouts, silence_pynetdicom
from medsr.node.spool import DERIVED, WORK, Spool, read_facts

_CLASSES = (uid.MRImageStorage, uid.CTImageStorage)
_SYNTAXES = [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian]
_HOUR = 3600.0

logger = logging.getLogger(__name__)


class Away(Exception):  # noqa: N818 (a state of the destination)
    """The destination cannot be reached, or takes nothing at present."""


class Rejected(Exception):  # noqa: N818
    """The destination does not want an image."""


class Stopped(Exception):  # noqa: N818
    """The node is being stopped."""


class Sender(threading.Thread):
    """Sends the jobs of the state `sending`, one after the other.

    Every image of a series is sent again when one did not arrive: they have the same UIDs and the same bytes, so the
    destination keeps one of each.

    Args:
        spool: The queue.
        config: Destination and pauses.
        stop: Set when the node ends.
    """

    def __init__(self, spool: Spool, config: NodeConfig, stop: threading.Event) -> None:
        super().__init__(name="sender", daemon=True)
        silence_pynetdicom()
        self._spool, self._config, self._ending = spool, config, stop
        self.wake = threading.Event()

    def run(self) -> None:
        """Send until the node is stopped."""
        while not self._ending.is_set():
            job = next(iter(self._spool.jobs("sending")), None)
            if job is None:
                self.wake.wait(1.0)
                self.wake.clear()
                continue
            try:
                self.send(job)
            except Stopped:
                return
            except Exception as error:  # a full disk, say; the job is still there
                logger.error("job %s could not be sent: %s", job.name, type(error).__name__)
                self._ending.wait(self._config.retry_seconds)

    def send(self, job: Path) -> None:
        """Send a job until it has arrived, or there is no hope."""
        work = read_facts(job / WORK)
        files = sorted((job / DERIVED).glob("*/IM*.dcm"))
        try:
            self._retrying(float(work.get("since", time.time())))(send_files, self._config, files, self._ending)
        except (Away, Rejected) as error:
            self._spool.fail(job, f"{self._config.destination}: {error}")
            return
        self._spool.done(job, work, keep=self._config.keep_done_days > 0)
        logger.info("job %s is done: series %s, %d images sent", job.name, work.get("derived_series"), len(files))

    def _retrying(self, since: float) -> Callable[..., Any]:
        config = self._config

        def hopeless(state: tenacity.RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            if isinstance(error, Rejected):
                return state.attempt_number >= config.attempts
            return time.time() - since >= config.give_up_hours * _HOUR

        def tell(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            logger.warning("%s: %s; again in %g s", config.destination, error, state.upcoming_sleep)

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((Away, Rejected)),
            stop=hopeless,
            wait=tenacity.wait_exponential(multiplier=config.retry_seconds, max=config.longest_retry_seconds),
            sleep=tenacity.sleep_using_event(self._ending),
            before_sleep=tell,
            reraise=True,
        )


def send_files(config: NodeConfig, files: Sequence[Path], stop: threading.Event) -> None:
    """Send images in one association.

    Raises:
        Away: If the destination is not there, or was lost, or is full.
        Rejected: If it does not take these images.
        Stopped: If the node is being stopped.
    """
    destination = config.destination
    ae = AE(ae_title=config.ae_title)
    set_timeouts(ae, config.network_seconds)
    for storage in _CLASSES:
        ae.add_requested_context(storage, _SYNTAXES)
    if stop.is_set():
        raise Stopped
    association = ae.associate(destination.host, destination.port, ae_title=destination.ae_title)
    if not association.is_established:
        raise Away("refuses the association" if association.is_rejected else "cannot be reached")
    try:
        for file in files:
            if stop.is_set():
                raise Stopped
            _check(_store(association, file))
    except BaseException:
        association.abort()
        raise
    association.release()


def _store(association: Any, file: Path) -> Any:
    try:
        return association.send_c_store(file)
    except ValueError as error:  # no accepted context
        raise Rejected("does not take images of this kind") from error
    except RuntimeError as error:  # the association is gone
        raise Away("broke the association off") from error


def _check(answer: Any) -> None:
    """Raise unless an answer means that the image is there."""
    if "Status" not in answer:
        raise Away("broke the association off")
    status = int(answer.Status)
    if status == 0 or status >> 12 == 0xB:  # success, or stored with a remark
        return
    if status >> 8 == 0xA7:
        raise Away("is out of resources")
    raise Rejected(f"does not take an image (status 0x{status:04X})")
