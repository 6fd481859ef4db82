"""What is taken into the queue, with a clock of its own and no network."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from medsr.errors import OutputError
from medsr.node.config import Destination, Limits, NodeConfig
from medsr.node.intake import Full, Instance, Intake
from medsr.node.spool import Spool, opened


class Clock:
    """Seconds that pass when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """An intake on a queue; `again` is a new process on the same."""

    def __init__(self, root: Path, **limits: int) -> None:
        self.config = NodeConfig(
            *(root, Destination("A", "localhost", 104)), quiet_seconds=10, resume_seconds=100, limits=Limits(**limits)
        )
        self.clock = Clock()
        self.again()

    def again(self) -> None:
        if hasattr(self, "spool"):
            self.spool.close()
        self.spool = Spool(self.config.queue)
        self.spool.recover()
        self.intake = Intake(self.spool, self.config, self.clock)

    def take(self, series: int, *images: int, study: int = 1, size: int = 100, by: str = "a") -> None:
        for k in images:
            uids = Instance(f"1.{study}", f"1.{study}.{series}", f"1.{study}.{series}.{k}")
            self.intake.accept(by, uids, size, lambda file: file.write(b"x" * size) and None)

    def pass_time(self, seconds: float) -> list[int]:
        """Numbers of images of the series that are complete then."""
        self.clock.now += seconds
        self.intake.complete()
        return [len(list((job / "images").iterdir())) for job in self.spool.jobs("waiting")]

    def failed(self) -> list[str]:
        return [json.loads((job / "failed.json").read_text())["reason"] for job in self.spool.jobs("failed")]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "queue")


def test_all_series_of_a_study_wait_for_each_other(bench: Bench) -> None:
    bench.intake.open("a")
    bench.take(1, 1, 2)
    bench.intake.close("a", in_order=True)
    bench.clock.now += 9
    bench.intake.open("b")
    bench.take(2, 1, by="b")
    assert bench.pass_time(1000) == [], "as long as an association is open"
    bench.intake.close("b", in_order=True)
    assert bench.pass_time(9) == []
    assert sorted(bench.pass_time(2)) == [1, 2]


def test_other_studies_do_not(bench: Bench) -> None:
    bench.intake.open("a")
    bench.intake.open("b")
    bench.take(1, 1, study=1)
    bench.take(1, 1, study=2, by="b")
    bench.intake.close("a", in_order=True)
    assert bench.pass_time(11) == [1]


@pytest.mark.parametrize("restart", [False, True])
def test_cut_off(bench: Bench, restart: bool) -> None:
    bench.intake.open("a")
    bench.take(1, 1, 2)
    if restart:
        bench.again()
    else:
        bench.intake.close("a", in_order=False)
    assert bench.pass_time(90) == []
    bench.intake.open("a")
    bench.take(1, 3)
    bench.intake.close("a", in_order=True)
    assert bench.pass_time(11) == [3], "its sender came back"
    bench.intake.open("a")
    bench.take(2, 1)
    bench.intake.close("a", in_order=False)
    assert bench.pass_time(101) == [3, 1], "its sender did not: what was acknowledged is not lost"


def test_lost_association_whose_last_image_comes_after(bench: Bench) -> None:
    bench.intake.open("a")
    bench.take(1, 1)
    bench.intake.close("a", in_order=True)
    bench.take(1, 2)
    assert bench.pass_time(11) == []
    bench.again()
    assert bench.pass_time(11) == []
    assert bench.pass_time(90) == [2]


def test_late_images_join_a_series_that_waits(bench: Bench) -> None:
    bench.intake.open("a")
    bench.take(1, 1, 2)
    bench.intake.close("a", in_order=True)
    assert bench.pass_time(11) == [2]
    bench.intake.open("a")
    bench.take(1, 2, 3)
    assert bench.pass_time(11) == []
    bench.intake.close("a", in_order=True)
    assert bench.pass_time(11) == [3]
    assert bench.spool.instances == 3


@pytest.mark.parametrize("limits", [{"queue_series": 1}, {"queue_instances": 4}, {"queue_bytes": 1000}])
def test_a_series_is_refused_whole(tmp_path: Path, limits: dict[str, int]) -> None:
    bench = Bench(tmp_path, **limits)
    bench.intake.open("a")
    bench.take(1, 1, 2, 3, size=220)
    with pytest.raises(Full, match=next(iter(limits))):
        bench.take(2, 1, size=220)
    shutil.rmtree(bench.spool.jobs("receiving")[0] / "images")
    bench.spool.series = bench.spool.instances = bench.spool.bytes = 0
    with pytest.raises(Full, match="was refused"):
        bench.take(2, 2)  # there is room again, but the first would be missing
    bench.intake.close("a", in_order=True)
    bench.intake.open("b")
    bench.take(2, 1, 2, 3, by="b")


@pytest.mark.parametrize("restart", [False, True])
def test_refused_images_of_a_series_that_has_begun(tmp_path: Path, restart: bool) -> None:
    bench = Bench(tmp_path, queue_instances=4)
    bench.intake.open("a")
    bench.take(1, 1, 2, 3, 4)
    with pytest.raises(Full, match="queue_instances"):
        bench.take(1, 5)
    bench.intake.close("a", in_order=True)
    if restart:
        bench.again()
    assert bench.pass_time(50) == []
    bench.spool.instances = 0  # another job is done
    bench.intake.open("b")
    bench.take(1, 5, by="b")
    bench.intake.close("b", in_order=True)
    assert bench.pass_time(11) == [5]


def test_refused_images_that_never_come(tmp_path: Path) -> None:
    bench = Bench(tmp_path, queue_instances=4)
    bench.intake.open("a")
    bench.take(1, 1, 2, 3, 4)
    with pytest.raises(Full):
        bench.take(1, 5)
    bench.intake.close("a", in_order=True)
    assert bench.pass_time(101) == []
    words = "1 image(s) were refused for lack of room and not sent again; send the whole series again"
    assert bench.failed() == [words]
    assert bench.spool.retry_failed() == 0, "a series that lacks images is no series, on request neither"


def test_full_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    bench.intake.open("a")
    bench.take(1, 1)
    with pytest.raises(Full, match="disk"):
        bench.intake.accept("a", Instance("1.1", "1.1.1", "1.1.1.2"), 4, full)
    assert not list(bench.spool.incoming.iterdir())
    assert len(list(bench.spool.root.rglob("*.dcm"))) == 1
    bench.intake.close("a", in_order=True)
    assert bench.pass_time(11) == [], "it waits for the image that had no room"
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(Full, match="disk"):
        bench.take(2, 1)


def test_records_that_were_written_before_a_rename(bench: Bench) -> None:
    """Killed between the record of an end and the move to it: the end holds."""
    for series in (1, 2):
        bench.intake.open("a")
        bench.take(series, 1, study=series)
        bench.intake.close("a", in_order=True)
    bench.pass_time(11)
    first, second = bench.spool.jobs("waiting")
    first = bench.spool.move(first, "sending")
    (first / "done.json").write_text("{}")
    (second / "failed.json").write_text('{"reason": "x"}')
    bench.again()
    assert [job.name for job in bench.spool.jobs("done")] == [first.name]
    assert [job.name for job in bench.spool.jobs("failed")] == [second.name]


def test_one_node_for_one_queue(bench: Bench) -> None:
    with pytest.raises(OutputError, match="another node uses this queue"), opened(bench.config.queue):
        pass
