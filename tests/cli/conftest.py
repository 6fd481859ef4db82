"""Bad input: what makes it, and what both doors must answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

SHAPE = (9, 8, 7)


@dataclass(frozen=True)
class Kit:
    """What the makers of bad inputs need."""

    folder: Path
    volume: np.ndarray
    affine: np.ndarray
    write_dicom: Callable[..., None]

    def nifti(self, array: np.ndarray | None = None, name: str = "x.nii.gz", affine: np.ndarray | None = None) -> Path:
        path = self.folder / name
        data = self.volume if array is None else array
        nib.save(nib.Nifti1Image(data, self.affine if affine is None else affine), path)
        return path

    def itk(self, name: str, array: np.ndarray | None = None, vector: bool = False) -> Path:
        path = self.folder / name
        data = self.volume if array is None else array
        sitk.WriteImage(sitk.GetImageFromArray(data, isVector=vector), str(path))
        return path

    def dicom(self, change: Callable[[int, Any], Any] = lambda k, image: None) -> Path:
        path = self.folder / "series"
        self.write_dicom(path, self.volume, self.affine, change)
        return path


@pytest.fixture
def kit(
    tmp_path: Path, phantom: Callable[..., np.ndarray], oblique_affine: np.ndarray, write_dicom: Callable[..., None]
) -> Kit:
    folder = tmp_path / "in"
    folder.mkdir()
    return Kit(folder, phantom(SHAPE), oblique_affine, write_dicom)


class Doors:
    """`medsr upscale` and `python -m monai.bundle run`, given something bad.

    Args:
        command: the fixture `medsr_command`.
        bundle: the fixture `monai_bundle`.
        root: the bundle that both use.
        out: where results would go.
    """

    def __init__(self, command: Callable[..., Any], bundle: Callable[..., Any], root: Path, out: Path) -> None:
        self.command, self.bundle, self.root, self.out = command, bundle, root, out

    def options(self, given: Path) -> dict[str, Any]:
        """Of `monai.bundle run`."""
        return {
            "config_file": self.root / "configs" / "inference.json",
            "dataset_dir": given,
            "output_dir": self.out,
        }

    def refuse_by_command(self, words: str, given: Path, *arguments: object) -> None:
        """Run `medsr upscale`: one line that begins `medsr: error:`, besides it only which bundle runs."""
        done = self.command("upscale", given, "-o", self.out, *arguments)
        assert done.status in (1, 2), done.err
        lines = [line for line in done.err.splitlines() if not re.match(r"medsr: \w+ on \w+: 1 image", line)]
        assert len(lines) == 1, done.err
        assert lines[0].startswith("medsr: error: ")
        assert re.search(words, lines[0]), lines[0]
        assert f"{given}: {given}" not in done.err
        assert done.out == ""
        assert self.nothing_written()

    def refuse_by_bundle(self, words: str, given: Path, **settings: Any) -> None:
        """Run the bundle: our line is the last, after no traceback and no log of the engine's error."""
        done = self.bundle("run", **self.options(given), **settings)
        self.check_bundle(done.status, done.err, words)
        assert self.nothing_written()

    @staticmethod
    def check_bundle(status: int, err: str, words: str) -> None:
        """What `monai.bundle run` leaves on the screen."""
        assert status != 0
        lines = [line for line in err.splitlines() if line.strip()]
        assert lines[-1].startswith("medsr: error: "), err
        assert re.search(words, lines[-1]), lines[-1]
        assert len([line for line in lines if line.startswith("medsr: error: ")]) == 1
        assert "Traceback" not in err
        assert "ERROR" not in err

    def nothing_written(self) -> bool:
        """Neither a result nor a hidden temporary file."""
        return not self.out.exists() or not [path for path in self.out.rglob("*") if path.is_file()]


@pytest.fixture
def doors(
    medsr_command: Callable[..., Any], monai_bundle: Callable[..., Any], tiny_bundle: Path, tmp_path: Path
) -> Doors:
    return Doors(medsr_command, monai_bundle, tiny_bundle, tmp_path / "out")
