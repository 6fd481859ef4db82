"""How the spectra of images of known formation decay: the constants of `medsr.formation.estimation`, and how it does.

`python -m benchmarks.formation_spectra DATA` reads `splits.csv` of a folder of images (hippocampus and T1w), prints the
levels and covariances of the training split, and for the test split how often each estimate follows each truth.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from tabulate import tabulate

from medsr.degradation import Degradation
from medsr.formation import parse_formation
from medsr.formation.estimation import estimate
from medsr.formation.spectra import decay

SCALE = 2
LARGEST = 128  # voxels along an axis of the middle that is used of a head
HIPPOCAMPI = {"train": 20, "test": 12}
SMOOTH = ("kspace", "block", "gaussian:fwhm=0.85", "gaussian:fwhm=1", "gaussian:fwhm=1.2", "gaussian:fwhm=1.5")
WINDOWED = ("kspace:window=tukey", "kspace:window=fermi", "kspace:window=hamming")
TRUTHS = (*SMOOTH, *WINDOWED, "gaussian-blur:sigma=0.6", "gaussian-blur:sigma=1", "bicubic", "kspace:extent=0.7")


def images(data: Path, split: str) -> Iterator[np.ndarray]:
    """The images (1, X, Y, Z) of a split, about [0, 1], of even sizes."""
    with (data / "splits.csv").open(encoding="utf-8") as file:
        names = [row["file"] for row in csv.DictReader(file) if row["split"] == split and "label" not in row["file"]]
    heads = [name for name in names if name.startswith("brain_t1") and "vsseg" not in name]
    for name in heads + [name for name in names if "hippocampus" in name][: HIPPOCAMPI[split]]:
        values = np.asarray(nib.load(data / name).dataobj, dtype=np.float32)
        if min(values.shape) > 150:
            values = values[tuple(slice(max(0, (n - LARGEST) // 2), (n + LARGEST) // 2) for n in values.shape)]
        values = (values - values.min()) / (np.percentile(values, 99.9) - values.min())
        yield values[tuple(slice(0, n - n % SCALE) for n in values.shape)][None]


def reduced(hr: np.ndarray, formation: str, sigma: float) -> np.ndarray:
    """The LR image (1, X, Y, Z) of a formation, with white noise."""
    degradation = parse_formation(formation)
    assert isinstance(degradation, Degradation)
    lr = degradation(torch.from_numpy(hr.copy())[None], SCALE)[0].double().numpy()
    return lr + np.random.default_rng(0).normal(0, sigma, lr.shape) if sigma else lr


def constants(data: Path) -> str:
    """The mean levels of each model, and the covariance within models of both groups."""
    lines = []
    for group in (SMOOTH, WINDOWED):
        levels: dict[str, list[np.ndarray]] = {name: [] for name in group}
        for hr in images(data, "train"):
            for name in group:
                lr = reduced(hr, name, 0.0)
                levels[name] += [found.levels for axis in range(3) if (found := decay(lr, axis)) is not None]
        means = {name: np.mean(values, axis=0) for name, values in levels.items()}
        lines += [f"{name} ({len(levels[name])} axes): {mean.round(2).tolist()}" for name, mean in means.items()]
        off = np.concatenate([np.array(levels[name]) - means[name] for name in group])
        lines.append(f"covariance: {np.cov(off.T).round(3).tolist()}")
    return "\n".join(lines)


def confusion(data: Path, sigma: float) -> str:
    """How many axes of the test split each formation is estimated for, by truth."""
    rows = {name: Counter[str]() for name in TRUTHS}
    for hr in images(data, "test"):
        for name in TRUTHS:
            for axis, reason in enumerate(estimate(reduced(hr, name, sigma), (1.0, 1.0, 1.0)).reasons):
                words = reason.removeprefix(f"axis {axis}: ")
                rows[name][words.removeprefix("the spectrum decays as after ").split(",")[0].split(":")[0]] += 1
    columns = sorted({column for row in rows.values() for column in row})
    return tabulate([[name, *(row[c] for c in columns)] for name, row in rows.items()], ["truth", *columns], "github")


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    print(constants(data))
    for sigma in (0.0, 0.02):
        print(f"\nnoise {sigma}\n\n{confusion(data, sigma)}")


if __name__ == "__main__":
    main()
