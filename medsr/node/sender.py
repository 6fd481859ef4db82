"""The storage SCU, which sends derived series to the destination and tries again while that is away."""

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
    """The signal that the destination cannot be reached, or takes nothing at present."""


class Rejected(Exception):  # noqa: N818
    """The signal that the destination has refused an image."""


class Stopped(Exception):  # noqa: N818
    """The signal that the node is being stopped."""


class Sender(threading.Thread):
    """The thread that sends the jobs in the state `sending`, one after the other.

    If one image of a series does not arrive, all of them are sent again. They have the same UIDs and the same bytes,
    so the destination keeps one copy of each.

    Args:
        spool: The queue.
        config: The destination and the pauses between attempts.
        stop: The event that is set when the node ends.
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
            except Exception as error:  # such as a full disk; the job is still in the queue
                logger.error("job %s could not be sent (%s); it will be tried again", job.name, type(error).__name__)
                self._ending.wait(self._config.retry_seconds)

    def send(self, job: Path) -> None:
        """Send a job, again if need be, until it has arrived or has used up its attempts."""
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
        """Return a function that calls another one again while the destination is away.

        Args:
            since: When the series became ready to be sent, in seconds since the epoch.
        """
        config = self._config

        def hopeless(state: tenacity.RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            if isinstance(error, Rejected):
                return state.attempt_number >= config.attempts
            return time.time() - since >= config.give_up_hours * _HOUR

        def tell(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            logger.warning("%s: %s; trying again in %g s", config.destination, error, state.upcoming_sleep)

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
        Away: If the destination cannot be reached, breaks the association off, or is full.
        Rejected: If the destination refuses an image.
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
        rejected = "refused the association; check both AE titles and its list of known nodes"
        raise Away(rejected if association.is_rejected else "cannot be reached; check its host and port")
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
    """Send one image, and return the answer.

    Raises:
        Away: If the association is lost.
        Rejected: If the destination accepts no presentation context for the image.
    """
    try:
        return association.send_c_store(file)
    except ValueError as error:  # no accepted presentation context
        raise Rejected("does not accept this SOP class; enable MR and CT Image Storage there") from error
    except RuntimeError as error:  # the association is gone
        raise Away("broke the association off") from error


def _check(answer: Any) -> None:
    """Check that an answer means that the image has arrived.

    Raises:
        Away: If there is no answer, or the destination is full.
        Rejected: If the answer is any other failure.
    """
    if "Status" not in answer:
        raise Away("broke the association off")
    status = int(answer.Status)
    if status == 0 or status >> 12 == 0xB:  # success, or stored with a warning
        return
    if status >> 8 == 0xA7:
        raise Away("is out of resources; free space there")
    raise Rejected(f"refused an image (status 0x{status:04X}); see its log")
