"""What the trainings of the plan for a GPU leave: weights, curves, speeds and logs, in few small files."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

POINTS = 300  # of the curve of the loss
LOG = 400_000  # characters kept of the log of a training
_METRIC = re.compile(r"Epoch\[(\d+)\] Metrics -- psnr: ([-\d.]+)")


class Record:
    """The folder of results, which holds everything that was made so far, whenever the run is stopped.

    Args:
        output: The folder: `NAME.pt` and `NAME.json` of every training, `record.json` and `log.txt`.
        work: The folder of the trainings themselves, one folder and one log for each.
    """

    def __init__(self, output: Path, work: Path) -> None:
        self.output, self.work = output, work
        self.started = time.time()
        self.trainings: dict[str, dict[str, Any]] = {}
        self._copied: dict[Path, int] = {}
        self._readers: dict[str, Any] = {}

    def begin(self, name: str, settings: dict[str, str]) -> None:
        """Note the settings of a part of a training."""
        training = self.trainings.setdefault(name, {"parts": [], "told": []})
        training["parts"].append({"at_seconds": round(time.time() - self.started, 1), "settings": settings})

    def tell(self, name: str, what: str) -> None:
        """Note an event."""
        self.trainings[name]["told"].append(f"{time.time() - self.started:.0f} s: {what}")

    def progress(self, name: str) -> tuple[int, float]:
        """Return the steps that a training has done, and its steps per second, validations included (0: unknown)."""
        losses = self._losses(name)
        if not losses:
            return 0, 0.0
        ends = float("inf")
        for part in reversed(self.trainings[name]["parts"]):  # the newest that has steps: a pause between is no step
            begun = self.started + part["at_seconds"]
            own = [(at, step) for at, step, _ in losses if begun <= at < ends]
            if len(own) > 1:
                return losses[-1][1], (own[-1][1] - own[0][1]) / max(own[-1][0] - own[0][0], 1e-9)
            ends = begun
        return losses[-1][1], 0.0

    def write(self) -> None:
        """Write what is new. Nothing here may end a training, so a file that is being written waits for the next."""
        logs = {name: self._log(name) for name in self.trainings}
        for name, training in self.trainings.items():
            steps, speed = self.progress(name)
            training.update(steps=steps, steps_per_second=round(speed, 3))
            training["loss"] = _thinned(self._losses(name))
            training["validation_psnr"] = [(int(epoch), float(psnr)) for epoch, psnr in _METRIC.findall(logs[name])]
            training["choices"] = re.findall(r"training goes on in (.*)", logs[name])
            for suffix in (".pt", ".json"):
                self._copy(self.work / name / f"model{suffix}", f"{name}{suffix}")
        document = {"seconds": round(time.time() - self.started, 1), "trainings": self.trainings}
        self._put("record.json", (json.dumps(document) + "\n").encode())
        self._put("log.txt", "".join(f"== {name}\n{text[-LOG:]}\n" for name, text in logs.items()).encode())

    def _copy(self, source: Path, name: str) -> None:
        with suppress(OSError):
            changed = source.stat().st_mtime_ns
            if self._copied.get(source) != changed:
                self._put(name, source.read_bytes())
                self._copied[source] = changed

    def _put(self, name: str, content: bytes) -> None:
        # Beside the folder, not in it: a killed run leaves whole files only.
        temporary = self.work / f"new_{name}"
        temporary.write_bytes(content)
        try:
            os.replace(temporary, self.output / name)
        except OSError:  # another disk
            shutil.copyfile(temporary, self.output / name)

    def _log(self, name: str) -> str:
        """Return the log of a training without the states of its progress bar."""
        with suppress(OSError):
            text = (self.work / f"{name}.log").read_text(encoding="utf-8", errors="replace")
            return "\n".join(line.rsplit("\r", 1)[-1] for line in text.split("\n"))
        return ""

    def _losses(self, name: str) -> list[tuple[float, int, float]]:
        """Return (time, step, loss) of the steps of a training, from the log of TensorBoard."""
        folder = self.work / name / "tensorboard"
        if folder.is_dir():
            with suppress(Exception):  # whatever a log that is being written raises
                from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

                if name not in self._readers:
                    self._readers[name] = EventAccumulator(str(folder), size_guidance={"scalars": 0})
                events = self._readers[name].Reload().Scalars("train_loss")  # reads on where it ended
                return sorted((event.wall_time, event.step, event.value) for event in events)
        return []


def _thinned(losses: list[tuple[float, int, float]]) -> list[tuple[int, float]]:
    """Return (last step, mean loss) of at most `POINTS` equal parts of a curve."""
    width = -(-len(losses) // POINTS) or 1
    parts = [losses[first : first + width] for first in range(0, len(losses), width)]
    return [(part[-1][1], float(f"{sum(loss for _, _, loss in part) / len(part):.5g}")) for part in parts]
