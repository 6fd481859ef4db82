"""The queue on disk: a job is a folder, and its state is the folder that it lies in.

    incoming/  files that are being written
    receiving/ series of which images may still come
    waiting/   complete series
    working/   the one that is being enlarged
    sending/   derived series on their way
    done/      what was done, as facts in a JSON file
    failed/    what was not, with a reason

A job goes from one state to the next by one rename, so that it is in exactly one of them whenever the process dies.
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
IMAGES = "images"  # folder of a job with what was received
DERIVED = "derived"  # folder of a job with what was made of it
SERIES, WORK, UNFINISHED, DONE, FAILED = ("series.json", "work.json", "unfinished.json", "done.json", "failed.json")
_DAY = 86400.0

logger = logging.getLogger(__name__)


class Spool:
    """The folders of the queue; safe for several threads of the one process that may use it.

    Args:
        root: The folder of the queue, created if absent. Only its owner may read it.

    Raises:
        OutputError: If it cannot be used, or another node uses it.
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
        """Folder of files that are being written."""
        return self.root / "incoming"

    def close(self) -> None:
        """Let others use the queue."""
        self._own.release()

    def jobs(self, state: str) -> list[Path]:
        """Return the jobs of a state, the oldest first."""
        return sorted(path for path in (self.root / state).iterdir() if path.is_dir())

    def recover(self) -> None:
        """Put everything in order after a process that ended in the midst of its work."""
        with self.lock:
            for left in self.incoming.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            for state in STATES:
                remove_all_hidden(self.root / state)
            for job in self.jobs("receiving"):
                if not (job / SERIES).is_file():  # died before its first image was acknowledged
                    shutil.rmtree(job)
            for job in [job for state in ACTIVE for job in self.jobs(state)]:
                for name, state in ((DONE, "done"), (FAILED, "failed")):  # died between its facts and its rename
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
        """Have failed jobs done again but for those that lack images; returns how many."""
        with self.lock:
            jobs = [job for job in self.jobs("failed") if not (job / UNFINISHED).exists()]
            for job in jobs:
                for name in (WORK, FAILED):
                    durable.remove(job / name)
                self.move(job, "waiting")
            return len(jobs)

    def move(self, job: Path, state: str) -> Path:
        """Give a job another state; returns its new folder."""
        with self.lock:
            target = self.root / state / job.name
            durable.move(job, target)
            self.count()
            return target

    def put_back(self, job: Path) -> Path:
        """Return a job that was being worked at to those that wait."""
        shutil.rmtree(job / DERIVED, ignore_errors=True)
        return self.move(job, "waiting")

    def done(self, job: Path, facts: dict[str, Any], keep: bool = False) -> None:
        """Have a job done; its images are deleted unless they are to be kept."""
        with self.lock:
            write_json_atomic(job / DONE, {**facts, "finished": time.time()}, on_disk=True)
            job = self.move(job, "done")
            if not keep:
                self._strip(job)

    def fail(self, job: Path, reason: str) -> None:
        """Set a job apart, with a reason of one line that names no patient."""
        logger.error("job %s failed: %s", job.name, reason)
        write_json_atomic(job / FAILED, {"reason": reason, "finished": time.time()}, on_disk=True)
        shutil.rmtree(self.move(job, "failed") / DERIVED, ignore_errors=True)

    def discard(self, job: Path) -> None:
        """Delete a job, at once."""
        with self.lock:
            left = self.incoming / hidden_name()
            durable.move(job, left)
            shutil.rmtree(left)
            self.count()

    def expire(self, keep_done_days: float, remember_days: float, keep_failed_days: float) -> None:
        """Delete what is older than is wanted."""
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
        """Delete what a job was about, and keep the facts."""
        for name in (IMAGES, DERIVED):
            shutil.rmtree(job / name, ignore_errors=True)
        self.count()

    def count(self) -> None:
        """Count what is there: bytes in all states, series and images of those that are not done."""
        with self.lock:
            self.bytes = sum(_size(path) for path in self.root.rglob("*"))
            active = [job for state in ACTIVE for job in self.jobs(state)]
            self.series = len(active)
            self.instances = sum(len(images(job)) for job in active)


@contextmanager
def opened(root: Path) -> Iterator[Spool]:
    """Open the queue, put in order, for the length of a block."""
    spool = Spool(root)
    try:
        spool.recover()
        yield spool
    finally:
        spool.close()


def images(job: Path) -> list[Path]:
    """Return the files of the images that were received."""
    folder = job / IMAGES
    return sorted(folder.glob("*.dcm")) if folder.is_dir() else []


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts in a JSON file of a job; none if there is no such file."""
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
    """Seconds since a job was done or failed."""
    return time.time() - float(read_facts(facts).get("finished", 0.0))
