"""The node as a process: from a sender to a destination, what is done once only, and what is told."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import uid

Series = Callable[..., list[Path]]
PRIVATE = re.compile(r"doe|jane|0815|19610409|20200131|101112|A-77", re.IGNORECASE)


def reasons(node: Any) -> list[str]:
    return [json.loads((job / "failed.json").read_text())["reason"] for job in node.jobs("failed")]


def test_one_path_with_medsr_upscale(
    kit: Any, node: Any, archive: Any, series: Series, medsr_command: Any, tiny_bundle: Path, tmp_path: Path
) -> None:
    node.start()
    files = series(1)
    assert kit.send(node, files) == [0] * len(files)
    node.idle(1)
    (received,) = archive.series().values()
    words = ("upscale", files[0].parent, "-o", tmp_path / "out", "--bundle", tiny_bundle, "--scale", 2)
    direct = medsr_command(*words, "--format", "dicom", "--no-preview", "--device", "cpu")
    assert direct.status == 0, direct.err
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    expected = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    assert len(received) == 8
    changing = ("SeriesDate", "SeriesTime", "ContentDate", "ContentTime", "InstanceCreationDate")
    for one, other in zip(received, expected, strict=True):
        for image in (one, other):
            del image.ContributingEquipmentSequence, image.InstanceCreationTime
            for keyword in changing:
                delattr(image, keyword)
        assert one == other, "UIDs, geometry and voxels"


def test_echo_and_a_clean_stop_in_the_midst_of_an_association(kit: Any, node: Any, series: Series) -> None:
    node.start()
    files = series(1)
    association = kit.associate(node, files)
    assert association.send_c_echo().Status == 0
    assert association.send_c_store(pydicom.dcmread(files[0])).Status == 0
    assert node.end(signal.SIGINT) == 0, node.text()
    assert "stopped" in node.text()
    assert "Traceback" not in node.text()
    assert [len(list((job / "images").iterdir())) for job in node.jobs("receiving")] == [1]


def test_classes_and_syntaxes(
    kit: Any,
    node: Any,
    archive: Any,
    series: Series,
    write_enhanced: Any,
    phantom: Any,
    oblique_affine: Any,
    tmp_path: Path,
) -> None:
    def as_ct(k: int, image: Any) -> None:
        image.Modality, image.SOPClassUID = "CT", uid.CTImageStorage
        image.file_meta.MediaStorageSOPClassUID = uid.CTImageStorage
        image.compress(uid.RLELossless)

    def deflated(k: int, image: Any) -> None:
        image.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian

    enhanced = tmp_path / "sent" / "enhanced.dcm"
    write_enhanced(enhanced, phantom((8, 9, 4)), oblique_affine)
    node.start()
    for files in (
        series(1, study=1, change=as_ct),
        series(2, study=2, change=deflated),
        series(3, study=3, change=lambda k, image: image.compress(uid.JPEGLSLossless)),
        [enhanced],
    ):
        assert set(kit.send(node, files)) == {0}
    node.idle(4)
    assert not node.jobs("failed"), reasons(node)
    found = sorted((images[0].Modality, len(images)) for images in archive.series().values())
    assert found == [("CT", 8), ("MR", 8), ("MR", 8), ("MR", 8)]


def test_a_study_is_complete_when_nobody_sends(kit: Any, node: Any, archive: Any, series: Series) -> None:
    """Two associations that follow one another bring one series: it is derived once, of all its images."""
    node.settings["quiet_seconds"] = 1.5
    node.start()
    files = series(1)
    kit.send(node, files[:2])
    kit.send(node, files[2:])
    node.idle(1)
    assert [len(images) for images in archive.series().values()] == [8]


def test_the_same_series_again(kit: Any, node: Any, archive: Any, series: Series) -> None:
    node.start()
    files = series(1)
    kit.send(node, files)
    node.idle(1)
    assert set(archive.times.values()) == {1}
    node.stop()
    node.start()
    kit.send(node, files)
    node.wait(lambda: "was done before" in node.text() and not node.jobs(*kit.UNDONE), "it is recognised")
    assert set(archive.times.values()) == {1}, "neither enlarged nor sent again"
    assert len(node.jobs("done")) == 1
    kit.send(node, files[:2])
    node.wait(lambda: node.jobs("failed"), "a part of it is no series")
    assert "send the whole series again" in reasons(node)[0]
    assert len(archive.series()) == 1


def test_what_medsr_made_and_localizers_are_left_alone(
    kit: Any, node: Any, archive: Any, series: Series, tmp_path: Path
) -> None:
    node.start()
    kit.send(node, series(1))
    node.idle(1)
    (derived,) = archive.series().values()
    paths = [tmp_path / f"{k}.dcm" for k in range(len(derived))]
    for path, image in zip(paths, derived, strict=True):
        pydicom.dcmwrite(path, image, enforce_file_format=True)
    assert set(kit.send(node, paths)) == {0}
    kit.send(node, series(2, change=lambda k, image: setattr(image, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"])))
    node.idle(3)
    skipped = [json.loads((job / "done.json").read_text()).get("skipped") for job in node.jobs("done")]
    assert skipped == [None, "medsr made it", "localizers"]
    assert len(archive.series()) == 1


def test_reasons_and_logs_name_no_patient(
    kit: Any, node: Any, archive: Any, series: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.start()
    gap = series(1, change=lambda k, image: k != 1)
    named = series(2, study=2)
    for file in named:  # a thickness that is the patient's name: the reader's message repeats it
        content = file.read_bytes()
        assert content.count(b"DS\x04\x002.5 ") == 1
        file.write_bytes(content.replace(b"DS\x04\x002.5 ", b"DS\x04\x00Jane"))
    kit.send(node, gap)
    association = kit.associate(node, named)
    for file in named:
        image = pydicom.dcmread(file, defer_size=None)
        assert association.send_c_store(file).Status == 0, image.SOPInstanceUID
    association.release()
    kit.send(node, series(3, study=3))
    node.idle(3)
    assert len(node.jobs("failed")) == 2
    assert len(archive.series()) == 1
    told = node.text() + "".join(reasons(node))
    assert "failed" in told
    assert re.search(r"slice|gap|spacing", reasons(node)[0])
    assert "(hidden)" in told or "cannot be read" in told
    assert not PRIVATE.search(told), PRIVATE.search(told)
    assert "\n" not in "".join(reasons(node))
    assert "1.2.3.3.3" in told, "series are named by their UIDs"
    assert not re.search(r"(?m)^[DI]: |pynetdicom|Requesting Association|Presentation Context", told)


def test_failed_jobs_on_request_again(kit: Any, node: Any, archive: Any, series: Series) -> None:
    archive.answer = lambda image: 0xC000
    node.start()
    kit.send(node, series(1))
    node.wait(lambda: node.jobs("failed"), "the destination rejects it")
    assert "0xC000" in reasons(node)[0]
    node.wait(lambda: not list(node.queue.rglob("derived")), "its result is deleted")
    archive.answer = lambda image: 0
    node.stop()
    node.start("--retry-failed")
    node.idle(1)
    assert not node.jobs("failed")
    assert len(archive.series()) == 1


def test_private_files(kit: Any, node: Any, series: Series) -> None:
    node.settings.update(keep_done_days=1, quiet_seconds=2)
    before = os.umask(0o022)
    try:
        node.start()
    finally:
        os.umask(before)
    kit.send(node, series(1))

    def modes() -> set[tuple[bool, int]]:
        found = [node.queue.lstat().st_mode]
        for folder, folders, files in os.walk(node.queue):
            for name in [*folders, *files]:
                with suppress(FileNotFoundError):  # the node moves its jobs meanwhile
                    found.append(Path(folder, name).lstat().st_mode)
        return {(stat.S_ISDIR(mode), stat.S_IMODE(mode)) for mode in found}

    assert modes() == {(True, 0o700), (False, 0o600)}
    node.idle(1)
    assert modes() == {(True, 0o700), (False, 0o600)}
    assert len(list(node.queue.glob("done/*/images/*.dcm"))) == 4, "kept for a day"
    node.stop()
    node.settings.update(keep_done_days=0)
    node.start()
    node.wait(lambda: not list(node.queue.glob("done/*/images")), "deleted at the next start")
    assert len(node.jobs("done")) == 1


def test_poison_does_not_loop(kit: Any, node: Any, archive: Any, series: Series, tmp_path: Path) -> None:
    """A job that fails for a reason that is not its own is begun again, but not for ever."""
    node.settings.update(quiet_seconds=1)
    node.start()
    kit.send(node, series(1))
    (job,) = node.jobs("receiving")
    node.stop()
    (job / "work.json").write_text(json.dumps({"begun": 3}))
    node.start()
    node.wait(lambda: node.jobs("failed"), "it is given up")
    assert "started 3 times and never finished: the node died each time" in reasons(node)[0]
    kit.send(node, series(2))
    node.idle(2)
    assert len(archive.series()) == 1, "others go on"
