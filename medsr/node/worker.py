"""Make derived series of the waiting ones, none of them twice, and give up those that keep failing."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydicom

from medsr.data.dicom.decoders import check_deflated
from medsr.data.dicom.derived.description import is_made_here
from medsr.data.dicom.errors import BoundedFile
from medsr.engines import user_error
from medsr.errors import MedsrError, OutputError
from medsr.files import durable
from medsr.files.atomic import write_json_atomic
from medsr.files.hashes import file_sha256
from medsr.node.config import NodeConfig
from medsr.node.log_messages import without_private
from medsr.node.spool import DERIVED, DONE, IMAGES, SERIES, WORK, Spool, images, read_facts
from medsr.upscaling import Upscaler
from medsr.version import __version__

_RESULT = "series"  # the name of the derived series' folder

logger = logging.getLogger(__name__)


class Worker:
    """The part of the node that enlarges waiting series, by the same function as `medsr upscale --format dicom`.

    Args:
        spool: The queue.
        config: The bundle, and the scale or spacing.

    Raises:
        MedsrError: If the bundle is unknown, its weights are unusable, or the scale is impossible.
    """

    def __init__(self, spool: Spool, config: NodeConfig) -> None:
        self._spool, self._config = spool, config
        self._upscaler = Upscaler(
            config.bundle,
            scale=config.scale,
            spacing=config.spacing,
            device=config.device,
            precision=config.precision,
            memory_mb=config.memory_mb,
            **{k: v for k in ("tile_size", "between_scales") if (v := getattr(config, k)) is not None},
            preview=False,
            output_dir=str(spool.root / "working"),
            output_ext="dicom",
            output_postfix="",
        )
        self._request = {
            "bundle": self._upscaler.bundle.name,
            "weights_sha256": file_sha256(self._upscaler.bundle.weights),
            "scale": config.scale,
            "spacing": config.spacing,
            "precision": config.precision,
            "medsr": __version__,
            "destination": str(config.destination),
        }

    def step(self) -> bool:
        """Work on the oldest waiting series, and return whether there was one that could be started."""
        spool = self._spool
        with spool.lock:
            waiting = spool.jobs("waiting")
            full = spool.bytes >= self._config.limits.queue_bytes and spool.jobs("sending")
            if not waiting or full:  # results must not pile up without end while the destination is away
                return False
            job = spool.move(waiting[0], "working")
        try:
            self._work(job)
        except Exception as error:  # a fault of the queue itself, such as a full disk
            logger.error("job %s could not be worked on (%s); it will be tried again", job.name, _place(error))
            if job.is_dir():
                spool.put_back(job)
            time.sleep(self._config.retry_seconds)  # runs in the main thread, where a signal interrupts it
        return True

    def give_back(self) -> None:
        """Put the job of a node that is being stopped back into the queue, without counting the attempt."""
        for job in self._spool.jobs("working"):
            work = read_facts(job / WORK)
            if work:
                write_json_atomic(job / WORK, {**work, "begun": max(0, int(work.get("begun", 0)) - 1)}, on_disk=True)
            self._spool.put_back(job)

    def _work(self, job: Path) -> None:
        """Enlarge the series of a job, or settle the job without that."""
        spool, work = self._spool, read_facts(job / WORK)
        begun = int(work.get("begun", 0))
        if begun >= self._config.attempts:
            trouble = work.get("trouble", "the node died each time")
            spool.fail(job, f"started {begun} times and never finished: {trouble}")
            return
        work = {**work, "begun": begun + 1}
        write_json_atomic(job / WORK, work, on_disk=True)  # counted before anything can go wrong
        facts = self._facts(job)
        if self._is_settled(job, facts):
            return
        work |= facts
        write_json_atomic(job / WORK, work, on_disk=True)
        logger.info("job %s: series %s, %d file(s)", job.name, facts["series"], len(facts["instances"]))
        try:
            derived = self._upscaler.save(job / IMAGES, f"{job.name}/{DERIVED}/{_RESULT}")
        except Exception as error:
            self._give_up_or_back(job, work, error)
        else:
            self._hand_on(job, work, derived)

    def _facts(self, job: Path) -> dict[str, Any]:
        """Return what tells one job from another: its series, its images, their content and the request."""
        files = images(job)
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.name} {file_sha256(file)}\n".encode())
        return {
            "series": str(read_facts(job / SERIES).get("series", "")),
            "instances": [file.stem for file in files],
            "digest": digest.hexdigest(),
            "request": self._request,
        }

    def _is_settled(self, job: Path, facts: Mapping[str, Any]) -> bool:
        """Settle a job for which there is nothing to compute, and return whether it is one."""
        spool, before = self._spool, self._earlier(facts["series"])
        if any(done["digest"] == facts["digest"] and done["request"] == self._request for done in before):
            logger.info("job %s: series %s was done before and is not done again", job.name, facts["series"])
            spool.discard(job)
            return True
        if any(set(done["instances"]) - set(facts["instances"]) for done in before):
            spool.fail(job, "expected all images of a series that came before, got a part; send the whole series again")
            return True
        reason = _not_for_us(images(job))
        if reason:
            logger.info("job %s: series %s is not enlarged: %s", job.name, facts["series"], reason)
            spool.done(job, {**facts, "skipped": reason}, keep=self._config.keep_done_days > 0)
        return bool(reason)

    def _earlier(self, series: str) -> list[dict[str, Any]]:
        """Return the facts of a series' jobs that are done or being sent."""
        spool = self._spool
        with spool.lock:
            found = [read_facts(job / DONE) for job in spool.jobs("done")]
            found += [read_facts(job / WORK) for job in spool.jobs("sending")]
        return [facts for facts in found if facts.get("series") == series and "digest" in facts]

    def _hand_on(self, job: Path, work: dict[str, Any], folder: Path) -> None:
        """Write the result through to the disk, and queue it to be sent.

        Args:
            job: The folder of the job.
            work: The facts of the job.
            folder: The folder of the derived series.
        """
        record = read_facts(job / DERIVED / f"{_RESULT}.json")
        for warning in record.get("warnings", ()):
            logger.warning("job %s: %s", job.name, without_private(str(warning), images(job)))
        uid = record["dicom"]["series_uid"]
        write_json_atomic(job / WORK, {**work, "derived_series": uid, "since": time.time()}, on_disk=True)
        durable.sync_tree(job)
        self._spool.move(job, "sending")
        logger.info("job %s: derived series %s, %d images", job.name, uid, record["dicom"]["images"])

    def _give_up_or_back(self, job: Path, work: dict[str, Any], error: Exception) -> None:
        """Fail a job that would always fail; put back one that may succeed later, such as after a full disk."""
        mistake = user_error(error)
        if isinstance(mistake, MedsrError) and not isinstance(mistake, OutputError):
            self._spool.fail(job, without_private(str(mistake), images(job)))
            return
        trouble = without_private(str(mistake), images(job)) if mistake else _place(error)
        logger.error("job %s: %s; it will be tried again", job.name, trouble)
        write_json_atomic(job / WORK, {**work, "trouble": trouble}, on_disk=True)
        self._spool.put_back(job)
        time.sleep(self._config.retry_seconds * 2 ** (work["begun"] - 1))


def _not_for_us(files: list[Path]) -> str:
    """Return why a series is not to be enlarged, or an empty text if it is."""
    localizers = 0
    for file in files:
        try:
            check_deflated(file)
            with BoundedFile(file) as opened:
                header = pydicom.dcmread(opened, stop_before_pixels=True, force=True)
            if is_made_here(header):
                return "medsr made it"
            localizers += "LOCALIZER" in (header.get("ImageType") or ())
        except Exception:  # a damaged header, which the reader of the series reports
            return ""
    return "localizers" if files and localizers == len(files) else ""


def _place(error: Exception) -> str:
    """Return the class and the place of an error without its message, which may name a patient."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {place}"
