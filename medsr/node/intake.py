"""From images that come one by one to complete series: what is taken, what is refused, and when a study is there."""

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

_TO_BEGIN = 0.75  # of bytes and images: above it no series is begun, so that those that are can be finished
_SPARE = 64 << 20  # bytes of the disk that are left alone
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

logger = logging.getLogger(__name__)


class Full(Exception):  # noqa: N818 (a state of the queue, not a fault)
    """The queue takes no more at present."""


class Instance(NamedTuple):
    """The UIDs of an image that has come."""

    study: str
    series: str
    instance: str

    @property
    def name(self) -> str:
        """Of its file: of UIDs not even their form is trusted."""
        return hashlib.sha256(self.instance.encode()).hexdigest()[:32]


@dataclass
class _Receiving:
    """A series of which images may still come.

    Attributes:
        job: Its folder.
        study: StudyInstanceUID.
        touched: When something last happened to it (monotonic).
        refused: The names of images that had no room and must come again.
        cut_off: Whether an association that sent some of it ended out of turn.
    """

    job: Path
    study: str
    touched: float
    refused: set[str] = field(default_factory=set)
    cut_off: bool = False

    @property
    def in_order(self) -> bool:
        return not (self.refused or self.cut_off)


@dataclass
class _Association:
    """What an open association has sent: series, and those that it began in vain."""

    series: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)


class Intake:
    """Takes images into the queue.

    An image is on the disk when `accept` returns. A series that was cut off, by its sender or by the end of this
    process, or of which an image was refused, is known by a file in its folder, and waits longer for the rest.

    Args:
        spool: The queue, in order.
        config: Its limits and times.
        clock: The seconds that only grow.
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
        """Take an image.

        Args:
            association: The association that it came by.
            uids: The UIDs of the image.
            size: The size, in bytes.
            fill: Writes it to a file.

        Raises:
            Full: If there is no room; nothing has changed but that the series waits for this image.
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
            in_order: Released by its sender, not aborted or lost.
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
        spool, limits = self._spool, self._config.limits
        begun = uids.series in self._receiving or self._find_waiting(uids) is not None
        if association in self._associations and uids.series in self._associations[association].refused:
            raise Full("the series was refused")  # all of it, or the rest would pass for the whole
        share = 1.0 if begun else _TO_BEGIN
        if spool.bytes + size > limits.queue_bytes * share:
            raise Full("queue_bytes")
        if spool.instances + 1 > limits.queue_instances * share:
            raise Full("queue_instances")
        if not begun and spool.series >= limits.queue_series:
            raise Full("queue_series")
        if shutil.disk_usage(spool.root).free < size + _SPARE:
            raise Full("the disk is full")

    def _begin(self, association: Hashable, uids: Instance) -> _Receiving:
        """Return the series of an image: one that is being received, one that waits, else a new one."""
        series = self._receiving.get(uids.series)
        if series is None:
            job = self._find_waiting(uids)
            job = self._spool.move(job, "receiving") if job else self._new_job(uids)
            series = self._receiving[uids.series] = _Receiving(job, uids.study, self._clock())
        opened = self._associations.get(association)
        if opened is None:  # it was lost while this image was on its way
            series.cut_off = True
            self._note(series)
        elif uids.series not in opened.series:
            opened.series.add(uids.series)
            self._note(series)
        return series

    def _new_job(self, uids: Instance) -> Path:
        """Return a folder for a series; its name sorts by time."""
        key = hashlib.sha256(uids.series.encode()).hexdigest()[:16]
        job = self._spool.root / "receiving" / f"{time.time_ns():020d}-{key}"
        durable.make_folder(job)
        durable.make_folder(job / IMAGES)
        write_json_atomic(job / SERIES, {"study": uids.study, "series": uids.series}, on_disk=True)
        self._spool.series += 1
        logger.info("series %s begins as job %s", uids.series, job.name)
        return job

    def _find_waiting(self, uids: Instance) -> Path | None:
        """Return a series that was complete, until now."""
        jobs = self._spool.jobs("waiting")
        return next((job for job in jobs if read_facts(job / SERIES).get("series") == uids.series), None)

    def _refuse(self, association: Hashable, uids: Instance) -> None:
        series = self._receiving.get(uids.series)
        if series is not None:
            series.refused.add(uids.name)
            self._note(series)
        elif association in self._associations:
            self._associations[association].refused.add(uids.series)

    def _note(self, series: _Receiving) -> None:
        """Have on the disk that a series is not known to be complete."""
        try:
            write_json_atomic(series.job / UNFINISHED, {"refused": sorted(series.refused)}, on_disk=True)
        except OutputError:  # a full disk; an older note is still there
            logger.warning("job %s: which images are missing could not be noted", series.job.name)

    def _is_open(self, uid: str) -> bool:
        return any(uid in association.series for association in self._associations.values())

    def _pass_on(self, uid: str, series: _Receiving) -> None:
        del self._receiving[uid]
        if series.refused:
            missing = len(series.refused)
            self._spool.fail(series.job, f"{missing} image(s) were refused for want of room and not sent again")
            return
        if series.cut_off:
            logger.warning("job %s: its sender was cut off and did not come back; taken as it is", series.job.name)
        job = self._spool.move(series.job, "waiting")
        durable.remove(job / UNFINISHED)
        logger.info("series %s is complete: %d file(s)", uid, len(list((job / IMAGES).iterdir())))
