"""Requests that cannot be met and outputs that cannot be written, through both doors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# request, as both doors take it -> what the error must say; the image is a good one
REQUESTS: dict[str, tuple[str, list[float] | float, str]] = {
    "scale-below-one": ("scale", 0.5, "must be at least 1 on every axis, got 0.5x0.5x0.5"),
    "scale-below-one-on-an-axis": ("scale", [2, 2, 0.9], "got 2x2x0.9"),
    "scale-zero": ("scale", 0, "must be positive, got 0"),
    "scale-negative": ("scale", -2, "must be positive, got -2"),
    "scale-of-two-numbers": ("scale", [2, 2], "one per axis (3), got 2"),
    "too-many-voxels": ("scale", 200, "above the limit of 1,073,741,824"),
    "coarser-spacing": ("spacing", 3, "is coarser than the input's 0.9x1.1x2.5 mm"),
    "spacing-zero": ("spacing", 0, "must be a positive number of mm"),
    "spacing-of-two-numbers": ("spacing", [1, 1], "one per axis (3), got 2"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_bad_request_by_command(doors: Any, kit: Any, name: str) -> None:
    option, value, words = REQUESTS[name]
    numbers = value if isinstance(value, list) else [value]
    doors.refuse_by_command(re.escape(words), kit.nifti(), f"--{option}", *numbers, "--bundle", doors.root)


@pytest.mark.parametrize("name", REQUESTS)
def test_bad_request_by_bundle(doors: Any, kit: Any, name: str) -> None:
    option, value, words = REQUESTS[name]
    doors.refuse_by_bundle(re.escape(words), kit.nifti(), **{option: value})


def test_unwritable_output(doors: Any, kit: Any) -> None:
    given, blocked = kit.nifti(), kit.folder / "file"
    blocked.write_text("in the way")
    doors.out = blocked / "out"
    doors.refuse_by_command("cannot be written: Not a directory", given, "--scale", "2", "--bundle", doors.root)
    doors.refuse_by_bundle("cannot be written: a part of its path is a file", given, scale=2)
    assert blocked.read_text() == "in the way"


def test_read_only_folder(doors: Any, kit: Any) -> None:
    given = kit.nifti()
    doors.out.mkdir(mode=0o555)
    if os.access(doors.out, os.W_OK):
        pytest.skip("the superuser may write anywhere")
    doors.refuse_by_command("cannot be written: Permission denied", given, "--scale", "2", "--bundle", doors.root)
    doors.refuse_by_bundle("cannot be written: no permission", given, scale=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scale", "two"], r"argument --scale: 'two' is not a number \(see medsr upscale --help\)"),
        (["--scale", "2", "--spacing", "1"], "not allowed with argument --scale"),
        ([], "one of the arguments --scale --spacing is required"),
        (["--scale", "2", "--sharpen"], "unrecognized arguments: --sharpen"),
        (["--scale", "2", "--bundle", "nonsense"], "no bundle is called 'nonsense'; installed: .*recnn3d"),
        (["--scale", "2", "--device", "abacus"], "device 'abacus' cannot be used here"),
        (["--scale", "2", "--precision", "float8"], "a precision is one of"),
        (["--scale", "2", "--format", ".png"], r"results are written as \.nii\.gz"),
        (["--scale", "nan"], "a scale must be a positive number"),
    ],
)
def test_bad_arguments(doors: Any, kit: Any, arguments: list[str], words: str) -> None:
    doors.refuse_by_command(words, kit.nifti(), *arguments)


def test_no_command_and_an_unknown_one(medsr_command: Callable[..., Any]) -> None:
    for arguments in ([], ["sharpen"]):
        done = medsr_command(*arguments)
        assert done.status == 2
        assert done.err.startswith("medsr: error: ")
        assert len(done.err.splitlines()) == 1


def monai_process(settings: dict[str, Any], **options: Any) -> subprocess.CompletedProcess[str]:
    """`python -m monai.bundle run` in a process of its own."""
    words = [text for key, value in settings.items() for text in (f"--{key}", str(value))]
    repository = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(p for p in (str(repository), os.environ.get("PYTHONPATH")) if p)
    return subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", *words],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": path},
        **options,
    )


@pytest.mark.slow
def test_a_real_process_ends_in_one_line_while_the_config_is_built(doors: Any, tmp_path: Path) -> None:
    done = monai_process(doors.options(tmp_path / "absent"))
    doors.check_bundle(done.returncode, done.stderr, "absent: expected an image file")


@pytest.mark.slow
def test_a_real_process_ends_in_one_line_when_the_disk_is_full(doors: Any, kit: Any) -> None:
    resource = pytest.importorskip("resource")
    kit.nifti(name="first.nii.gz")  # small enough
    kit.nifti(np.random.default_rng(0).integers(0, 1000, (24, 24, 24)).astype(np.int16), name="second.nii.gz")
    done = monai_process(
        doors.options(kit.folder),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    words = r"second_sr\.nii\.gz: cannot be written: the file would be larger"
    doors.check_bundle(done.returncode, done.stderr, words)
    assert "%|" in done.stderr, "a progress bar was on the screen, and the error is on a line of its own"
    assert {path.name for path in doors.out.iterdir()} == {f"first_sr{e}" for e in (".nii.gz", ".json", ".png")}
