"""The destination: away, full, and unwilling; and a queue that fills while it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Series = Callable[..., list[Path]]
FULL = 0xA700


def test_away_and_back_with_growing_pauses(kit: Any, node: Any, absent: Any, series: Series) -> None:
    node.start()
    kit.send(node, series(1))
    node.wait(lambda: node.text().count("cannot be reached") >= 4, "several attempts")
    pauses = [float(text) for text in re.findall(r"again in ([\d.]+) s", node.text())]
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.5], "doubling, to the longest"
    node.stop()  # in the midst of a pause
    assert len(node.jobs("sending")) == 1
    absent.open()
    node.start()
    node.idle(1)
    absent.close()
    assert [len(images) for images in absent.series().values()] == [8]


def test_one_unwanted_image_is_enough(kit: Any, node: Any, archive: Any, series: Series) -> None:
    refused = {"count": 0}

    def answer(image: Any) -> int:
        if image.SeriesNumber == 101 and int(image.InstanceNumber) == 3:
            refused["count"] += 1
            return 0xA900
        return 0xB000 if int(image.InstanceNumber) == 1 else 0  # a remark is no refusal

    archive.answer = answer
    node.start()
    kit.send(node, [*series(1), *series(2)])
    node.idle(2)
    assert refused["count"] == 3, "attempts"
    (failed,) = node.jobs("failed")
    reason = json.loads((failed / "failed.json").read_text())["reason"]
    assert "refused an image (status 0xA900); see its log" in reason
    assert "medsr: ERROR" in node.text()


def test_gives_up_a_destination_in_the_end(kit: Any, node: Any, archive: Any, series: Series) -> None:
    archive.answer = lambda image: FULL
    node.settings["give_up_hours"] = 0.5 / 3600
    node.start()
    kit.send(node, series(1))
    node.idle(1)
    (failed,) = node.jobs("failed")
    assert "out of resources" in (failed / "failed.json").read_text()
    assert len(list((failed / "images").iterdir())) == 4, "what was received is kept"


def test_full_queue_refuses_and_loses_nothing(kit: Any, node: Any, absent: Any, series: Series) -> None:
    """While the destination is away the queue fills. The refused images come again, and all is derived whole."""
    node.settings["limits"] = {"queue_instances": 7, "queue_series": 2}
    node.start()
    first, second, third = series(1, study=1), series(2, study=2), series(3, study=3)
    kit.send(node, first)
    node.wait(lambda: node.jobs("sending"), "the first waits for the destination")
    assert kit.send(node, second) == [0] * 3 + [FULL]
    assert kit.send(node, third) == [FULL] * 4
    node.wait(lambda: node.text().count("released") >= 3, "all have gone")
    node.stop()
    node.start()
    absent.open()
    node.wait(lambda: len(node.jobs("done")) == 1, "the first is done")
    assert len(node.jobs("receiving")) == 1, "three of four images are no series, after a restart neither"
    assert kit.send(node, second[3:]) == [0]
    node.idle(2)
    assert kit.send(node, third) == [0] * 4
    node.idle(3)
    absent.close()
    assert [len(images) for images in absent.series().values()] == [8, 8, 8]
    assert not node.jobs("failed")


def test_bytes_of_the_queue(kit: Any, node: Any, absent: Any, series: Series) -> None:
    files = series(1)
    size = sum(file.stat().st_size for file in files)
    node.settings["limits"] = {"queue_bytes": 2 * size}
    node.start()
    assert kit.send(node, files) == [0] * 4
    node.wait(lambda: node.jobs("sending"), "the first waits for the destination")
    assert kit.send(node, series(2)) == [FULL] * 4, "the first and what was made of it fill three quarters"
    node.wait(lambda: "queue_bytes" in node.text(), "the log says why")
