"""Train what the plan for a GPU lists within its time, and write weights and records as it goes.

Each training runs twice by the bundle's own `train.json`: a third of its time tells the speed, and the rest continues
from the checkpoint with a schedule that ends when the time does. Only the standard library is used before the wheels
are installed.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from benchmarks.gpu_curves import Record
from benchmarks.gpu_stages import STAGES, VAL_LIMIT, Stage, milestones

FIRST = 0.3  # of the time of a training, to measure its speed
STARTUP = 25.0  # seconds that a process takes to import, to load the data and to end
SURE = 0.8  # of the measured speed is counted on: the network may have to be compiled again
LOOK = 5.0  # seconds between two looks at what was made
_PLAIN = {"precision": "float32", "layout": "contiguous", "train#dataloader#num_workers": "0"}  # of a second try
# medsr imports SimpleITK and reads its constants, but volumes and pictures of the plan do without it.
_ABSENT = "def __getattr__(name):\n    if name.startswith('__'):\n        raise AttributeError(name)\n    return name\n"
_SMALL = {"batch_size": "1", "patch_size": "32", "val_limit": "1", "precision": "float32", "layout": "contiguous"}


def run(
    archive: Path, output: Path, minutes: float = 9.5, steps: int | None = None, stages: Sequence[Stage] = STAGES
) -> int:
    """Run the trainings.

    Args:
        archive: The packed folder.
        output: The folder of the results.
        minutes: The time from now until everything has ended.
        steps: The steps of each of the two parts of every training, on small patches; None for the plan itself.
        stages: The trainings, in their order.

    Returns:
        0 if every training left weights, else 1.

    Raises:
        SystemExit: If a file of the archive differs from its hash.
    """
    end = time.monotonic() + 60 * minutes - 5
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the trainings and writes the record
    output.mkdir(parents=True, exist_ok=True)
    work = output.resolve().parent / f".{output.name}_work"
    shutil.rmtree(work, ignore_errors=True)
    (work / "data").mkdir(parents=True)
    environment = _prepared(archive, work)
    record = Record(output, work)
    try:
        for position, stage in enumerate(stages):
            left = sum(other.share for other in stages[position:])
            now = time.monotonic()
            _Training(stage, archive, work, environment, record).run(now + (end - now) * stage.share / left, steps)
    finally:
        record.write()
    made = [stage.name for stage in stages if (output / f"{stage.name}.pt").is_file()]
    print(f"{output}: weights of {', '.join(made) or 'nothing'}")
    shutil.rmtree(work, ignore_errors=True)
    return 0 if len(made) == len(stages) else 1


def _prepared(archive: Path, work: Path) -> dict[str, str]:
    """Check and unpack the archive, install its wheels, and return the environment of the trainings."""
    for name, expected in json.loads((archive / "manifest.json").read_text(encoding="utf-8"))["sha256"].items():
        if sha256((archive / name).read_bytes()).hexdigest() != expected:
            raise SystemExit(f"{archive / name} differs from its recorded hash; copy the archive again")
    unpack(archive / "data.tar.bz2", work / "data")
    site = work / "site"
    wheels = sorted((archive / "wheels").glob("*.whl")) if (archive / "wheels").is_dir() else []
    if wheels:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
        subprocess.run([*pip, "--target", str(site), *map(str, wheels)], check=True)
        sys.path.insert(0, str(site))
    if find_spec("SimpleITK") is None:
        (work / "absent").mkdir()
        (work / "absent" / "SimpleITK.py").write_text(_ABSENT)
    places = [archive.resolve() / "code", site, work / "absent"]
    path = os.pathsep.join(str(place) for place in places if place.is_dir())
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{before}" if before else path, "PYTHONUNBUFFERED": "1"}


def unpack(packed: Path, folder: Path) -> None:
    """Unpack the data; volumes that are gzip files by their names become such ones, without compression."""
    with tarfile.open(packed) as tar:
        tar.extractall(folder, filter="data")
    for path in folder.rglob("*.nii.gz"):
        path.write_bytes(gzip.compress(path.read_bytes(), compresslevel=0))


class _Training:
    """One training of the plan."""

    def __init__(self, stage: Stage, archive: Path, work: Path, environment: dict[str, str], record: Record) -> None:
        self.stage, self.archive, self.work = stage, archive.resolve(), work
        self.environment, self.record = environment, record
        self.folder = work / stage.name
        self.plain: dict[str, str] = {}

    def run(self, end: float, steps: int | None) -> None:
        """Train until a time (monotonic clock, s): first to learn the speed, then with the schedule that fits."""
        stage, size = self.stage, steps or self.stage.steps_per_epoch
        if steps:
            for epochs in (1, 2):
                self._part(
                    {"max_epochs": str(epochs), "steps_per_epoch": str(size), **_SMALL}, epochs * size, None, end
                )
            return
        now = time.monotonic()
        known = {"steps_per_epoch": str(size), "val_limit": str(VAL_LIMIT)}
        workers = min(12, (os.cpu_count() or 1) - 2)
        if workers > 2:
            known["train#dataloader#num_workers"] = str(workers)
        middle = now + FIRST * (end - now)
        self._part({**known, "max_epochs": str(stage.steps // size)}, stage.steps, middle, end)
        done, speed = self.record.progress(stage.name)
        left = end - time.monotonic() - STARTUP
        total = min(stage.steps, done + int(SURE * speed * left)) if speed else stage.steps
        epochs = max(total // size, done // size + 1)
        if left > 0 and done < stage.steps:
            self._part({**known, "max_epochs": str(epochs)}, epochs * size, end, end)

    def _part(self, settings: dict[str, str], total: int, until: float | None, end: float) -> None:
        """Run `train.json` once, and once more with plain settings if it fails."""
        if until is not None:
            settings["time_budget_minutes"] = f"{max(until - time.monotonic() - STARTUP, 10) / 60:.3f}"
        failed = self._process({**settings, **self.plain}, total, end)
        if failed and not self.plain:
            self.record.tell(self.stage.name, f"failed with status {failed}: again with {_PLAIN}")
            self.plain = _PLAIN
            if end - time.monotonic() > STARTUP:
                self._process({**settings, **self.plain}, total, end)

    def _process(self, settings: dict[str, str], total: int, end: float) -> int:
        """Run `train.json`; return its exit status, or 0 if its time was over."""
        stage = self.stage
        wanted = {**stage.settings, **settings}
        if stage.falls:
            wanted["milestones"] = milestones(stage, total)
        starts = [self.work / str(stage.initial) / "model.pt", self.archive / "weights" / f"{stage.bundle}.pt"]
        start = next((path for path in starts if path.is_file()), None) if stage.initial else None
        if start is not None:
            wanted["initial_weights"] = str(start)
        config = self.archive / "code" / "bundles" / stage.bundle / "configs" / "train.json"
        command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config)]
        command += ["--dataset_dir", str(self.work / "data"), "--output_dir", str(self.folder)]
        command += [word for key, value in wanted.items() for word in (f"--{key}", value)]
        self.record.begin(stage.name, wanted)
        with (self.work / f"{stage.name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=self.environment, start_new_session=True
            )
            try:
                while process.poll() is None and time.monotonic() < end:
                    try:
                        process.wait(min(LOOK, max(0.1, end - time.monotonic())))
                    except subprocess.TimeoutExpired:
                        self.record.write()
                ended = process.poll()
            finally:
                if process.poll() is None:  # with the workers that prepare its batches
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if ended is None:
            self.record.tell(stage.name, "stopped: its time was over")
        self.record.write()
        return ended or 0
