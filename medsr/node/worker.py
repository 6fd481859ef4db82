"""From waiting series to derived ones: what is done, what is not done twice, and what is given up."""

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

_RESULT = "series"  # name of the derived series' folder

logger = logging.getLogger(__name__)


class Worker:
    """Enlarges the series that wait, by the same function as `medsr upscale --format dicom`.

    Args:
        spool: The queue.
        config: The bundle, scale or spacing.

    Raises:
        MedsrError: An unknown bundle, unusable weights, an impossible scale.
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
        """Work at the oldest series that waits; returns whether there was one that may be begun."""
        spool = self._spool
        with spool.lock:
            waiting = spool.jobs("waiting")
            full = spool.bytes >= self._config.limits.queue_bytes and spool.jobs("sending")
            if not waiting or full:  # while the destination is away results do not pile up without end
                return False
            job = spool.move(waiting[0], "working")
        try:
            self._work(job)
        except Exception as error:  # of the queue itself, a full disk say: tried again at the next turn
            logger.error("job %s: %s", job.name, _place(error))
            if job.is_dir():
                spool.put_back(job)
            time.sleep(self._config.retry_seconds)  # in the main thread, which a signal ends at once
        return True

    def give_back(self) -> None:
        """Return what was being worked at when the node is stopped, which is not the job's fault."""
        for job in self._spool.jobs("working"):
            work = read_facts(job / WORK)
            if work:
                write_json_atomic(job / WORK, {**work, "begun": max(0, int(work.get("begun", 0)) - 1)}, on_disk=True)
            self._spool.put_back(job)

    def _work(self, job: Path) -> None:
        spool, work = self._spool, read_facts(job / WORK)
        begun = int(work.get("begun", 0))
        if begun >= self._config.attempts:
            spool.fail(job, f"begun {begun} times without an end: {work.get('trouble', 'the node died each time')}")
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
        """What tells one job from another: its series, images, their content, and what is to be done to them."""
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
        """Settle a job for which there is nothing to compute; returns whether it is one."""
        spool, before = self._spool, self._earlier(facts["series"])
        if any(done["digest"] == facts["digest"] and done["request"] == self._request for done in before):
            logger.info("job %s: series %s was done before and is not done again", job.name, facts["series"])
            spool.discard(job)
            return True
        if any(set(done["instances"]) - set(facts["instances"]) for done in before):
            spool.fail(job, "some images of a series came after the others were taken: send the whole series again")
            return True
        reason = _not_for_us(images(job))
        if reason:
            logger.info("job %s: series %s is left alone: %s", job.name, facts["series"], reason)
            spool.done(job, {**facts, "skipped": reason}, keep=self._config.keep_done_days > 0)
        return bool(reason)

    def _earlier(self, series: str) -> list[dict[str, Any]]:
        """Return the facts of what was done, or is being sent, of a series."""
        spool = self._spool
        with spool.lock:
            found = [read_facts(job / DONE) for job in spool.jobs("done")]
            found += [read_facts(job / WORK) for job in spool.jobs("sending")]
        return [facts for facts in found if facts.get("series") == series and "digest" in facts]

    def _hand_on(self, job: Path, work: dict[str, Any], folder: Path) -> None:
        """Have the result on the disk, and sent."""
        record = read_facts(job / DERIVED / f"{_RESULT}.json")
        for warning in record.get("warnings", ()):
            logger.warning("job %s: %s", job.name, without_private(str(warning), images(job)))
        uid = record["dicom"]["series_uid"]
        write_json_atomic(job / WORK, {**work, "derived_series": uid, "since": time.time()}, on_disk=True)
        durable.sync_tree(job)
        self._spool.move(job, "sending")
        logger.info("job %s: derived series %s, %d images", job.name, uid, record["dicom"]["images"])

    def _give_up_or_back(self, job: Path, work: dict[str, Any], error: Exception) -> None:
        """Fail what will always fail; begin again later what may not, a full disk or memory say."""
        mistake = user_error(error)
        if isinstance(mistake, MedsrError) and not isinstance(mistake, OutputError):
            self._spool.fail(job, without_private(str(mistake), images(job)))
            return
        trouble = without_private(str(mistake), images(job)) if mistake else _place(error)
        logger.error("job %s: %s; it is begun again later", job.name, trouble)
        write_json_atomic(job / WORK, {**work, "trouble": trouble}, on_disk=True)
        self._spool.put_back(job)
        time.sleep(self._config.retry_seconds * 2 ** (work["begun"] - 1))


def _not_for_us(files: list[Path]) -> str:
    """Why there is nothing to do for a series; empty if there is."""
    localizers = 0
    for file in files:
        try:
            check_deflated(file)
            with BoundedFile(file) as opened:
                header = pydicom.dcmread(opened, stop_before_pixels=True, force=True)
            if is_made_here(header):
                return "medsr made it"
            localizers += "LOCALIZER" in (header.get("ImageType") or ())
        except Exception:  # a damaged header: reading the series says so in its own words
            return ""
    return "localizers" if files and localizers == len(files) else ""


def _place(error: Exception) -> str:
    """Where a defect shows, without its message, which may repeat anything."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {place}"
