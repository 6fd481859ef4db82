"""SIGKILL at any point: every series arrives, as one, and nothing is left behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

Series = Callable[..., list[Path]]


def sources(images: list[Any]) -> set[str]:
    return {str(item.ReferencedSOPInstanceUID) for image in images for item in image.SourceImageSequence}


def check(node: Any, archive: Any, *sent: list[Path]) -> None:
    """One whole derived series of each series sent, the same bytes whenever it came, and an empty queue."""
    received = archive.series()
    expected = [{str(pydicom.dcmread(file).SOPInstanceUID) for file in files} for files in sent]
    assert sorted(map(sorted, map(sources, received.values()))) == sorted(map(sorted, expected)), node.text()
    assert {len(images) for images in received.values()} == {2 * len(sent[0])}
    assert archive.changed == [], "what was sent again was the same"
    assert not node.jobs("receiving", "waiting", "working", "sending", "failed"), node.text()
    assert not list((node.queue / "incoming").iterdir())
    kept = {"images", "derived"}
    gone = lambda: not [p for p in node.queue.rglob("*") if p.name.startswith(".") or p.name in kept]  # noqa: E731
    node.wait(gone, "nothing is left")


def kill_when(node: Any, condition: Callable[[], Any], kit: Any) -> None:
    kit.until(condition, "the moment to kill", 20, pause=0.0005)
    node.kill()


def test_in_the_midst_of_receiving(kit: Any, node: Any, archive: Any, series: Series) -> None:
    files = series(1)
    node.start()
    kit.send(node, files, after=lambda count, association: node.kill() if count == 3 else None)
    assert len(list(node.queue.glob("receiving/*/images/*.dcm"))) == 3, "what was acknowledged is there"
    node.start()
    time.sleep(1)
    assert node.jobs("receiving"), "the first half is not taken for the whole"
    assert set(kit.send(node, files)) == {0}
    node.idle(1)
    check(node, archive, files)


def test_received_but_not_complete(kit: Any, node: Any, archive: Any, series: Series) -> None:
    files = series(1)
    node.settings["quiet_seconds"] = 1
    node.start()
    kit.send(node, files)
    kill_when(node, lambda: not list(node.queue.glob("receiving/*/unfinished.json")), kit)
    node.start()
    node.idle(1)
    check(node, archive, files)


def test_acknowledged_but_not_released(kit: Any, node: Any, archive: Any, series: Series) -> None:
    """The sender has its answers and will not come back; the node waits for it, but not for ever."""
    files = series(1)
    node.settings["resume_seconds"] = 1.5
    node.start()
    kit.send(node, files, after=lambda count, association: node.kill() if count == len(files) else None)
    node.start()
    node.idle(1)
    assert "cut off" in node.text()
    check(node, archive, files)


@pytest.mark.parametrize("state", ["waiting", "working", "derived", "sending"])
def test_in_the_midst_of_work(kit: Any, node: Any, archive: Any, series: Series, state: str) -> None:
    first, second = series(1), series(2)
    archive.answer = lambda image: time.sleep(0.02) or 0  # a moment to kill it in
    node.start()
    kit.send(node, [*first, *second])
    moments: dict[str, Callable[[], Any]] = {
        "waiting": lambda: node.jobs("waiting"),
        "working": lambda: list(node.queue.glob("working/*/work.json")),
        "derived": lambda: list(node.queue.glob("working/*/derived/.medsr-*")),
        "sending": lambda: len(archive.images) == 5,
    }
    kill_when(node, moments[state], kit)
    node.start()
    node.idle(2)
    check(node, archive, first, second)
    if state == "sending":
        assert sum(archive.times.values()) > len(archive.images), "the first images came twice, as the same"


def test_killed_again_and_again(kit: Any, node: Any, archive: Any, series: Series) -> None:
    """At moments that nobody chose, while a sender sends until it has its answers."""
    sent = [series(number, study=number) for number in (1, 2)]
    node.settings.update(attempts=100, resume_seconds=2)
    moments = np.random.default_rng(7).uniform(0.02, 0.9, 5)
    node.start()
    todo = list(sent)
    for moment in moments:
        end = time.monotonic() + moment
        if todo:
            try:
                answers = kit.send(node, todo[0], after=lambda count, a, end=end: _kill_at(node, end))
            except AssertionError:
                answers = []
            if answers == [0] * len(todo[0]):
                todo.pop(0)
        if node.pid is not None:
            time.sleep(max(0.0, end - time.monotonic()))
            node.kill()
        node.start()
    for files in todo:
        assert set(kit.send(node, files)) == {0}
    node.idle(2)
    check(node, archive, *sent)


def _kill_at(node: Any, end: float) -> None:
    if node.pid is not None and time.monotonic() >= end:
        node.kill()


def test_stopped_while_working(kit: Any, node: Any, archive: Any, series: Series) -> None:
    """SIGTERM in the midst of work gives the job back, without counting it against it."""
    files = series(1, shape=(40, 40, 24))
    node.settings.update(attempts=1)
    node.start()
    kit.send(node, files)
    kit.until(lambda: list(node.queue.glob("working/*/work.json")), "work begins", pause=0.0005)
    node.stop()
    assert node.jobs("waiting") or node.jobs("sending") or node.jobs("done"), node.text()
    assert not node.jobs("working", "failed")
    node.start()
    node.idle(1)
    check(node, archive, files)
