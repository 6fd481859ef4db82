"""The node as a process: from a sender to a destination."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsr.data.readers import read_volume

Series = Callable[..., list[Path]]


def test_series_in_derived_series_out(
    kit: Any, node: Any, archive: Any, series: Series, medsr_command: Any, tiny_bundle: Path, tmp_path: Path
) -> None:
    node.start()
    files = series(1)
    assert kit.send(node, files) == [0] * len(files)
    node.idle(1)
    (received,) = archive.series().values()
    direct = medsr_command(
        *("upscale", files[0].parent, "-o", tmp_path / "out", "--bundle", tiny_bundle, "--scale", 2),
        *("--format", "dicom", "--no-preview", "--device", "cpu"),
    )
    assert direct.status == 0, direct.err
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    import pydicom

    expected = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    assert [image.SOPInstanceUID for image in received] == [image.SOPInstanceUID for image in expected]
    for one, other in zip(received, expected, strict=True):
        assert one.PixelData == other.PixelData
        assert one.ImagePositionPatient == other.ImagePositionPatient


def test_clean_stop(node: Any) -> None:
    begun = time.monotonic()
    node.start()
    print("start", time.monotonic() - begun)
    begun = time.monotonic()
    node.stop()
    print("stop", time.monotonic() - begun)
    print(node.text())
