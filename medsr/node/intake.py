"""Collect images into complete series: which are taken, which are refused, and when a study is complete."""

from __future__ import annotations

import errno
import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from medsr.errors import OutputError
from medsr.files import durable
from medsr.files.atomic import atomic_path, write_json_atomic
from medsr.node.config import NodeConfig
from medsr.node.spool import IMAGES, SERIES, UNFINISHED, Spool, read_facts

_TO_BEGIN = 0.75  # share of the limits above which no new series is taken, so that begun series can be finished
_SPARE = 64 << 20  # bytes of the disk that are kept free
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

logger = logging.getLogger(__name__)


class Full(Exception):  # noqa: N818 (a state of the queue, not a fault)
    """The signal that the queue takes no more at present."""


class Instance(NamedTuple):
    """The UIDs of a received image."""

    study: str
    series: str
    instance: str

    @property
    def name(self) -> str:
        """The name of the image's file, a hash because a UID of a sender is not safe in a file name."""
        return hashlib.sha256(self.instance.encode()).hexdigest()[:32]


@dataclass
class _Receiving:
    """A series of which more images may come.

    Attributes:
        job: The folder of its job.
        study: The StudyInstanceUID.
        touched: When something last happened to it, in seconds of the intake's clock.
        refused: The names of the images that were refused for lack of room and must be sent again.
        cut_off: Whether an association that sent images of it ended without a release.
    """

    job: Path
    study: str
    touched: float
    refused: set[str] = field(default_factory=set)
    cut_off: bool = False

    @property
    def in_order(self) -> bool:
        """Whether no image is known to be missing."""
        return not (self.refused or self.cut_off)


@dataclass
class _Association:
    """The UIDs of the series that an open association has sent, and of those that were refused."""

    series: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)


class Intake:
    """The part of the node that takes images into the queue.

    An image is on the disk when `accept` returns. A series that was cut off, by its sender or by the end of this
    process, or of which an image was refused, is marked by a file in its folder, and waits longer for the rest.

    Args:
        spool: The queue, put in order.
        config: The limits and times.
        clock: The function that returns the time in seconds and never runs backwards.
    """

    def __init__(self, spool: Spool, config: NodeConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._spool, self._config, self._clock = spool, config, clock
        self._associations: dict[Hashable, _Association] = {}
        self._receiving: dict[str, _Receiving] = {}
        for job in spool.jobs("receiving"):
            known, left = read_facts(job / SERIES), job / UNFINISHED
            series = _Receiving(job, known["study"], clock(), set(read_facts(left).get("refused", ())), left.exists())
            self._receiving[known["series"]] = series

    def open(self, association: Hashable) -> None:
        """Note that an association begins."""
        with self._spool.lock:
            self._associations[association] = _Association()

    def accept(self, association: Hashable, uids: Instance, size: int, fill: Callable[[IO[bytes]], None]) -> None:
        """Take an image into the queue.

        Args:
            association: The association that sent the image.
            uids: The UIDs of the image.
            size: The size of the image, in bytes.
            fill: The function that writes the image to a file.

        Raises:
            Full: If there is no room; the series then waits for this image, and nothing else has changed.
            OSError: If the image cannot be written for another reason.
            OutputError: If the image cannot be moved to its place for another reason.
        """
        spool = self._spool
        with spool.lock:
            try:
                self._check_room(association, uids, size)
                series = self._begin(association, uids)
                file = series.job / IMAGES / f"{uids.name}.dcm"
                before = file.stat().st_size if file.exists() else None
                with atomic_path(file, on_disk=True, through=spool.incoming) as temporary, temporary.open("xb") as out:
                    fill(out)
            except (OSError, OutputError) as error:
                cause = error if isinstance(error, OSError) else error.__cause__
                if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
                    self._refuse(association, uids)
                    raise Full("the disk is full") from error
                raise
            except Full:
                self._refuse(association, uids)
                raise
            spool.bytes += file.stat().st_size - (before or 0)
            spool.instances += before is None
            series.touched = self._clock()
            if uids.name in series.refused:
                series.refused.discard(uids.name)
                self._note(series)

    def close(self, association: Hashable, in_order: bool) -> None:
        """Note that an association has ended.

        Args:
            association: The association that was opened.
            in_order: Whether the sender released it; false if it was aborted or lost.
        """
        with self._spool.lock:
            ended = self._associations.pop(association, _Association())
            for uid in ended.series:
                series = self._receiving.get(uid)
                if series is None:
                    continue
                series.touched, series.cut_off = self._clock(), not in_order
                if series.in_order and not self._is_open(uid):
                    durable.remove(series.job / UNFINISHED)

    def complete(self) -> None:
        """Pass on the series of all studies that are complete."""
        with self._spool.lock:
            for study in {series.study for series in self._receiving.values()}:
                of_study = {uid: series for uid, series in self._receiving.items() if series.study == study}
                if any(self._is_open(uid) for uid in of_study):
                    continue
                quiet = self._clock() - max(series.touched for series in of_study.values())
                for uid, series in of_study.items():
                    if quiet >= (self._config.quiet_seconds if series.in_order else self._config.resume_seconds):
                        self._pass_on(uid, series)

    def _check_room(self, association: Hashable, uids: Instance, size: int) -> None:
        """Check that there is room for an image.

        Raises:
            Full: If a limit or the disk is reached, or the image's series was refused before.
        """
        spool, limits = self._spool, self._config.limits
        begun = uids.series in self._receiving or self._find_waiting(uids) is not None
        if association in self._associations and uids.series in self._associations[association].refused:
            raise Full("its series was refused before")  # otherwise the rest of it would be taken for the whole
        share = 1.0 if begun else _TO_BEGIN
        if spool.bytes + size > limits.queue_bytes * share:
            raise Full("limits.queue_bytes is reached")
        if spool.instances + 1 > limits.queue_instances * share:
            raise Full("limits.queue_instances is reached")
        if not begun and spool.series >= limits.queue_series:
            raise Full("limits.queue_series is reached")
        if shutil.disk_usage(spool.root).free < size + _SPARE:
            raise Full("the disk is full")

    def _begin(self, association: Hashable, uids: Instance) -> _Receiving:
        """Return the series of an image: one that is being received, or one that waits, or a new one."""
        series = self._receiving.get(uids.series)
        if series is None:
            job = self._find_waiting(uids)
            job = self._spool.move(job, "receiving") if job else self._new_job(uids)
            series = self._receiving[uids.series] = _Receiving(job, uids.study, self._clock())
        opened = self._associations.get(association)
        if opened is None:  # the association was lost while this image was being received
            series.cut_off = True
            self._note(series)
        elif uids.series not in opened.series:
            opened.series.add(uids.series)
            self._note(series)
        return series

    def _new_job(self, uids: Instance) -> Path:
        """Make a folder for a new series, whose name sorts by time, and return it."""
        key = hashlib.sha256(uids.series.encode()).hexdigest()[:16]
        job = self._spool.root / "receiving" / f"{time.time_ns():020d}-{key}"
        durable.make_folder(job)
        durable.make_folder(job / IMAGES)
        write_json_atomic(job / SERIES, {"study": uids.study, "series": uids.series}, on_disk=True)
        self._spool.series += 1
        logger.info("series %s is received as job %s", uids.series, job.name)
        return job

    def _find_waiting(self, uids: Instance) -> Path | None:
        """Return the waiting job of an image's series, or None if there is none."""
        jobs = self._spool.jobs("waiting")
        return next((job for job in jobs if read_facts(job / SERIES).get("series") == uids.series), None)

    def _refuse(self, association: Hashable, uids: Instance) -> None:
        """Note that an image of a begun series was refused, or else its whole series."""
        series = self._receiving.get(uids.series)
        if series is not None:
            series.refused.add(uids.name)
            self._note(series)
        elif association in self._associations:
            self._associations[association].refused.add(uids.series)

    def _note(self, series: _Receiving) -> None:
        """Note on the disk that a series may be incomplete, and which images were refused."""
        try:
            write_json_atomic(series.job / UNFINISHED, {"refused": sorted(series.refused)}, on_disk=True)
        except OutputError:  # a full disk; an older note is still there
            logger.warning("job %s: cannot note which images are missing; free disk space", series.job.name)

    def _is_open(self, uid: str) -> bool:
        """Return whether an open association has sent images of a series."""
        return any(uid in association.series for association in self._associations.values())

    def _pass_on(self, uid: str, series: _Receiving) -> None:
        """Move a series to those that wait, or fail it if images were refused and not sent again."""
        del self._receiving[uid]
        if series.refused:
            missing = len(series.refused)
            reason = f"{missing} image(s) were refused for lack of room and not sent again; send the whole series again"
            self._spool.fail(series.job, reason)
            return
        if series.cut_off:
            words = "its sender was cut off and did not come back; the images received so far are taken as the series"
            logger.warning("job %s: %s", series.job.name, words)
        job = self._spool.move(series.job, "waiting")
        durable.remove(job / UNFINISHED)
        logger.info("series %s is complete: %d file(s)", uid, len(list((job / IMAGES).iterdir())))
