"""The queue on disk: a job is a folder, and the folder that it lies in is its state.

    incoming/  files that are being written
    receiving/ series of which more images may come
    waiting/   complete series
    working/   the series that is being enlarged
    sending/   derived series that are being sent
    done/      finished jobs, as facts in a JSON file
    failed/    failed jobs, with a reason

A job goes from one state to the next by one rename, so it is in exactly one state whenever the process dies.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from medsr.errors import OutputError
from medsr.files import durable
from medsr.files.atomic import write_json_atomic
from medsr.files.leftovers import hidden_name, remove_all_hidden

STATES = ("receiving", "waiting", "working", "sending", "done", "failed")
ACTIVE = STATES[:4]
IMAGES = "images"  # a job's folder of received images
DERIVED = "derived"  # a job's folder of derived series
SERIES, WORK, UNFINISHED, DONE, FAILED = ("series.json", "work.json", "unfinished.json", "done.json", "failed.json")
_DAY = 86400.0

logger = logging.getLogger(__name__)


class Spool:
    """The folders of the queue, which several threads of one process may use.

    Args:
        root: The folder of the queue, which is created if it is absent. Only its owner may read it.

    Raises:
        OutputError: If the folder cannot be used, or another node uses it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = threading.RLock()
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (root, self.incoming, *(root / state for state in STATES)):
                folder.mkdir(exist_ok=True, mode=0o700)
                folder.chmod(0o700)
            durable.sync_folder(root)
            self._own = FileLock(root / "lock", thread_local=False)
            self._own.acquire(blocking=False)
        except Timeout:
            raise OutputError(f"{root}: another node uses this queue; stop it, or choose another folder") from None
        except OSError as error:
            raise OutputError(f"{root}: cannot be used: {error.strerror or error}; choose another folder") from error
        self.bytes = self.instances = self.series = 0

    @property
    def incoming(self) -> Path:
        """The folder of files that are being written."""
        return self.root / "incoming"

    def close(self) -> None:
        """Release the queue, so that another node can use it."""
        self._own.release()

    def jobs(self, state: str) -> list[Path]:
        """Return the jobs of a state, the oldest first."""
        return sorted(path for path in (self.root / state).iterdir() if path.is_dir())

    def recover(self) -> None:
        """Put the queue in order after a process that ended in the middle of its work."""
        with self.lock:
            for left in self.incoming.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            for state in STATES:
                remove_all_hidden(self.root / state)
            for job in self.jobs("receiving"):
                if not (job / SERIES).is_file():  # the node died before it acknowledged the first image
                    shutil.rmtree(job)
            for job in [job for state in ACTIVE for job in self.jobs(state)]:
                for name, state in ((DONE, "done"), (FAILED, "failed")):  # the node died before the rename
                    if (job / name).is_file() and job.is_dir():
                        self.move(job, state)
            for job in self.jobs("working"):
                self.put_back(job)
            for job in self.jobs("waiting"):
                durable.remove(job / UNFINISHED)
            for job in self.jobs("failed"):
                shutil.rmtree(job / DERIVED, ignore_errors=True)
            self.count()

    def retry_failed(self) -> int:
        """Put failed jobs back into the queue, except those that lack images; return how many."""
        with self.lock:
            jobs = [job for job in self.jobs("failed") if not (job / UNFINISHED).exists()]
            for job in jobs:
                for name in (WORK, FAILED):
                    durable.remove(job / name)
                self.move(job, "waiting")
            return len(jobs)

    def move(self, job: Path, state: str) -> Path:
        """Move a job to another state, and return its new folder."""
        with self.lock:
            target = self.root / state / job.name
            durable.move(job, target)
            self.count()
            return target

    def put_back(self, job: Path) -> Path:
        """Move a job that was being enlarged back to those that wait, and return its new folder."""
        shutil.rmtree(job / DERIVED, ignore_errors=True)
        return self.move(job, "waiting")

    def done(self, job: Path, facts: dict[str, Any], keep: bool = False) -> None:
        """Record a job as done, and delete its images unless they are to be kept.

        Args:
            job: The folder of the job.
            facts: The facts to record.
            keep: Whether to keep the images.
        """
        with self.lock:
            write_json_atomic(job / DONE, {**facts, "finished": time.time()}, on_disk=True)
            job = self.move(job, "done")
            if not keep:
                self._strip(job)

    def fail(self, job: Path, reason: str) -> None:
        """Move a job to the failed ones.

        Args:
            job: The folder of the job.
            reason: The reason in one line, which must not identify a patient.
        """
        logger.error("job %s failed: %s", job.name, reason)
        write_json_atomic(job / FAILED, {"reason": reason, "finished": time.time()}, on_disk=True)
        shutil.rmtree(self.move(job, "failed") / DERIVED, ignore_errors=True)

    def discard(self, job: Path) -> None:
        """Delete a job; one rename takes it out of the queue."""
        with self.lock:
            left = self.incoming / hidden_name()
            durable.move(job, left)
            shutil.rmtree(left)
            self.count()

    def expire(self, keep_done_days: float, remember_days: float, keep_failed_days: float) -> None:
        """Delete what is older than its limit.

        Args:
            keep_done_days: How long the images of finished jobs are kept.
            remember_days: How long the facts of finished jobs are kept.
            keep_failed_days: How long failed jobs are kept.
        """
        with self.lock:
            for job in self.jobs("done"):
                age = _age(job / DONE)
                if age >= keep_done_days * _DAY:
                    self._strip(job)
                if age >= max(keep_done_days, remember_days) * _DAY:
                    self.discard(job)
            for job in self.jobs("failed"):
                if _age(job / FAILED) >= keep_failed_days * _DAY:
                    self.discard(job)
            self.count()

    def _strip(self, job: Path) -> None:
        """Delete the images of a job, and keep its facts."""
        for name in (IMAGES, DERIVED):
            shutil.rmtree(job / name, ignore_errors=True)
        self.count()

    def count(self) -> None:
        """Count the bytes in all states, and the series and images of the jobs that are not done."""
        with self.lock:
            self.bytes = sum(_size(path) for path in self.root.rglob("*"))
            active = [job for state in ACTIVE for job in self.jobs(state)]
            self.series = len(active)
            self.instances = sum(len(images(job)) for job in active)


@contextmanager
def opened(root: Path) -> Iterator[Spool]:
    """Open the queue and put it in order, and close it at the end of the block."""
    spool = Spool(root)
    try:
        spool.recover()
        yield spool
    finally:
        spool.close()


def images(job: Path) -> list[Path]:
    """Return the files of a job's received images."""
    folder = job / IMAGES
    return sorted(folder.glob("*.dcm")) if folder.is_dir() else []


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts in a JSON file of a job, or an empty dict if the file cannot be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):  # renamed by another thread
        if path.is_file():
            return os.stat(path).st_size
    return 0


def _age(facts: Path) -> float:
    """Return the time since a job was done or failed, in seconds."""
    return time.time() - float(read_facts(facts).get("finished", 0.0))
