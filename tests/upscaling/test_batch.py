"""Many images from Python: skipping, failures, the report, and what a watcher hears."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import medsr
from medsr.errors import GridError, InputError
from medsr.upscaling import Case, Progress, Report, Upscaler, plan_outputs, run_plan


@pytest.fixture
def folder(phantom: Callable[..., np.ndarray], tmp_path: Path) -> Path:
    """Three images, "b" of them corrupt."""
    root = tmp_path / "in"
    root.mkdir()
    for k, name in enumerate(("a.nii.gz", "b.nii.gz", "c.nii.gz")):
        nib.save(nib.Nifti1Image(phantom((9, 8, 7), k), np.eye(4)), root / name)
    (root / "b.nii.gz").write_bytes((root / "b.nii.gz").read_bytes()[:200])
    return root


class Heard(Progress):
    """Keeps what it hears, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def made_otherwise(self, count: int) -> None:
        self.events.append(("otherwise", count))

    def track(self, upscaler: Upscaler, cases: Sequence[Case]) -> Iterable[Case]:
        self.events.append(("track", upscaler.bundle.name, len(cases)))
        return cases

    def case(self, image: Path) -> None:
        self.events.append(("case", image.name))

    def saved(self, results: Sequence[Path]) -> None:
        self.events.append(("saved", *(path.name for path in results)))

    def failed(self, image: Path, what: str) -> None:
        self.events.append(("failed", image.name))


def test_a_failure_stops_no_other_image(folder: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    heard = Heard()
    plan = plan_outputs(folder, tmp_path / "out")
    report = run_plan(plan, tiny_bundle, scale=2, preview=False, progress=heard)
    assert (report.done, report.skipped, list(report.failed)) == (2, [], [str(folder / "b.nii.gz")])
    assert "damaged" in report.failed[str(folder / "b.nii.gz")]
    assert json.loads((tmp_path / "out" / "medsr_upscale.json").read_text()) == {
        "done": 2,
        "skipped": [],
        "failed": report.failed,
    }
    assert heard.events == [
        ("track", "tinysr", 3),
        *(("case", "a.nii.gz"), ("saved", "a_sr.nii.gz")),
        *(("case", "b.nii.gz"), ("failed", "b.nii.gz")),
        *(("case", "c.nii.gz"), ("saved", "c_sr.nii.gz")),
    ]
    expected = medsr.upscale(folder / "c.nii.gz", tiny_bundle, scale=2).numpy()[0]
    np.testing.assert_array_equal(nib.load(tmp_path / "out" / "c_sr.nii.gz").get_fdata(dtype=np.float32), expected)


def test_results_made_as_asked_are_left_alone(folder: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    (folder / "b.nii.gz").unlink()
    plan = plan_outputs(folder, tmp_path / "out")
    assert run_plan(plan_outputs(folder / "a.nii.gz", tmp_path / "out"), tiny_bundle, scale=2) == Report(done=1)
    assert not (tmp_path / "out" / "medsr_upscale.json").exists(), "of one image there is no report"
    heard = Heard()
    report = run_plan(plan, tiny_bundle, skip_existing=True, progress=heard, scale=2)
    assert report == Report(1, [str(folder / "a.nii.gz")])
    assert heard.events[0] == ("track", "tinysr", 1)
    heard.events.clear()
    assert run_plan(plan, tiny_bundle, skip_existing=True, progress=heard, scale=(2, 2, 2)).done == 0
    assert run_plan(plan, tiny_bundle, skip_existing=True, progress=heard, scale="2", formation="auto").done == 0
    assert heard.events == [], "no bundle was loaded"
    assert run_plan(plan, tiny_bundle, skip_existing=True, progress=heard, scale=2, formation="block").done == 2
    assert heard.events[0] == ("otherwise", 2)
    assert run_plan(plan, tiny_bundle, scale=2, formation="block").done == 2, "without the option all are made anew"


def test_what_is_wrong_with_the_request_is_raised(folder: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    plan = plan_outputs(folder, tmp_path / "out")
    with pytest.raises(GridError, match="either a scale"):
        run_plan(plan, tiny_bundle)
    for skip in (False, True):
        with pytest.raises(InputError, match="no bundle is called 'nonsense'"):
            run_plan(plan, "nonsense", skip_existing=skip, scale=2)
    assert list((tmp_path / "out").iterdir()) == []


def test_stop_at_errors_raises_the_first(folder: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    heard = Heard()
    with pytest.raises(Exception, match="damaged"):
        run_plan(plan_outputs(folder, tmp_path / "out"), tiny_bundle, stop_at_errors=True, scale=2, progress=heard)
    assert heard.events[-1] == ("case", "b.nii.gz")


def test_a_defect_is_raised_where_there_is_one_image_and_named_among_several(
    folder: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Upscaler, image: Path, stem: str) -> Path:
        raise KeyError("a defect\nof the program")

    monkeypatch.setattr(Upscaler, "save", broken)
    with pytest.raises(KeyError):
        run_plan(plan_outputs(folder / "a.nii.gz", tmp_path / "out"), tiny_bundle, scale=2)
    report = run_plan(plan_outputs(folder, tmp_path / "out"), tiny_bundle, scale=2)
    assert report.done == 0
    assert set(report.failed) == {str(folder / f"{name}.nii.gz") for name in "abc"}
    assert all(what.startswith("KeyError: ") and "\n" not in what for what in report.failed.values())
