"""The battery: every directory in bundles/ joins it by existing.

What a test must know of a bundle it reads from the bundle: the network's `spec`, the metadata, the configs. A few
facts that cannot be read are in `EXTRAS`, by bundle; a bundle without an entry there is tested all the same.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from scipy import ndimage
from torch.nn import functional as F

from medsr.degradation import from_dict, mu_of_noise
from medsr.networks import Family, NetworkSpec

REPOSITORY = Path(__file__).resolve().parents[2]
# MEDSR_TEST_BUNDLES: another folder of bundles to put to the test
BUNDLES = Path(os.environ.get("MEDSR_TEST_BUNDLES", REPOSITORY / "bundles"))
ROOTS = sorted(path for path in BUNDLES.iterdir() if path.is_dir())

Network = Callable[..., torch.Tensor]


def plain_convolutions(state: dict[str, torch.Tensor]) -> Network:
    """ReCNN written anew from its weights: zero-padded convolutions, ReLU between them, the input added."""

    def forward(image: torch.Tensor) -> torch.Tensor:
        names = sorted((key for key in state if key.endswith(".weight")), key=lambda key: int(key.split(".")[-2]))
        x = image
        for name in names:
            weight, bias = state[name].double(), state[name.replace("weight", "bias")].double()
            x = F.conv3d(x, weight, bias, padding=weight.shape[-1] // 2)
            if name != names[-1]:
                x = x.clamp(min=0)
        return image + x

    return forward


# Per bundle: "network" makes the forward pass anew from a state dict (default: the bundle's own module, in float64);
# "train" and "evaluate" shrink what a config computes, beyond what `Bundle.train_options` knows.
EXTRAS: dict[str, dict[str, Any]] = {
    "recnn3d": {
        "network": plain_convolutions,
        "train": {"patch_size": 16, "buffer": 8},
    },
    "metasrgan": {"train": {"patch_size": 32}},
    "miassr": {"train": {"patch_size": 32}},
    "rdst": {"train": {"patch_size": 32}},
    "slice_baselines": {"train": {"patch_size": 32}},
    "segmentation_unet": {"train": {"patch_size": 32, "batch_size": 2}},
}


@dataclass(frozen=True)
class Bundle:
    """A bundle under test, read without medsr's own loader."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def start(self) -> str:
        """What a restore network reads, by the notes of its weights."""
        notes = self.root / "models" / "model.json"
        return json.loads(notes.read_text())["start"] if notes.is_file() else "interpolated"

    def config(self, name: str) -> dict[str, Any]:
        return json.loads((self.root / "configs" / f"{name}.json").read_text())

    @property
    def extras(self) -> dict[str, Any]:
        return EXTRAS.get(self.name, {})

    @cached_property
    def metadata(self) -> dict[str, Any]:
        return self.config("metadata")

    @cached_property
    def weights(self) -> dict[str, torch.Tensor]:
        return torch.load(self.root / "models" / "model.pt", map_location="cpu", weights_only=True)

    def parser(self, name: str = "inference", **entries: Any) -> ConfigParser:
        parser = ConfigParser()
        parser.read_config(str(self.root / "configs" / f"{name}.json"))
        parser.update({"bundle_root": str(self.root), "device": "$torch.device('cpu')", **entries})
        parser.parse()
        return parser

    def network(self) -> torch.nn.Module:
        """The network with its weights."""
        network = self.parser().get_parsed_content("network_def")
        network.load_state_dict(self.weights, strict=True)
        return network.eval()

    @cached_property
    def spec(self) -> NetworkSpec:
        return self.parser().get_parsed_content("network_def").spec

    @property
    def enlarges(self) -> bool:
        """Whether its images get more voxels; segmentation networks, which judge SR, keep them."""
        return self.config("inference")["inferer"]["_target_"] == "medsr.inferers.SuperResolutionInferer"

    @property
    def is_fixed(self) -> bool:
        return self.spec.family is Family.FIXED

    @property
    def is_arbitrary(self) -> bool:
        return self.spec.family is Family.ARBITRARY

    @property
    def scale(self) -> float:
        """A scale the network takes, along the axes it enlarges."""
        return float(self.spec.scales[0]) if self.spec.scales else 2.0

    def possible(self, scale: tuple[float, ...], affine: np.ndarray) -> tuple[float, ...]:
        """A scale per array axis as the network can do it: a 2D network leaves the axis nearest the patient's alone."""
        through_plane = superior_axis(affine) if self.spec.spatial_dims == 2 else None
        most = self.spec.largest_scale or float("inf")
        return tuple(1.0 if axis == through_plane else min(float(s), most) for axis, s in enumerate(scale))

    def patch(self, shape: list[str], n: int) -> tuple[int, ...]:
        """A `spatial_shape` of the metadata as numbers."""
        return tuple(int(eval(str(size).replace("n", str(n)))) for size in shape)

    @property
    def train_options(self) -> dict[str, Any]:
        """A training of seconds; what every bundle's train.json names alike."""
        config = self.config("train")
        small = {"max_epochs": 2, "samples_per_epoch": 3, "steps_per_epoch": 3, "batch_size": 1}
        small |= {"val_interval": 1, "val_limit": 1}
        small |= {"precision": "float32", "layout": "contiguous"}  # what "auto" chooses depends on the machine's load
        options = {key: value for key, value in small.items() if key in config}
        return {**options, **self.extras.get("train", {})}


def superior_axis(affine: np.ndarray) -> int:
    """The array axis that runs most nearly along the patient's axis, by the affine."""
    return int(np.abs(affine[2, :3] / np.linalg.norm(affine[:3, :3], axis=0)).argmax())


@pytest.fixture(scope="session", params=ROOTS, ids=lambda root: root.name)
def any_bundle(request: pytest.FixtureRequest) -> Bundle:
    return Bundle(request.param)


@pytest.fixture(scope="session", params=[r for r in ROOTS if Bundle(r).enlarges], ids=lambda root: root.name)
def bundle(request: pytest.FixtureRequest) -> Bundle:
    """One that super-resolves."""
    return Bundle(request.param)


@pytest.fixture(scope="session", params=[r for r in ROOTS if not Bundle(r).enlarges], ids=lambda root: root.name)
def segmentation_bundle(request: pytest.FixtureRequest) -> Bundle:
    return Bundle(request.param)


@pytest.fixture(scope="session")
def expected_affine() -> Callable[..., np.ndarray]:
    """The affine the result must have: edges coincide, spacing divided by the scale."""

    def affine_of(affine: np.ndarray, scale: tuple[float, ...]) -> np.ndarray:
        result = affine.astype(np.float64).copy()
        for axis, s in enumerate(scale):
            result[:3, axis] = affine[:3, axis] / s
            result[:3, 3] += affine[:3, axis] * (1 / s - 1) / 2
        return result

    return affine_of


@pytest.fixture(scope="session")
def expected_image(bundle: Bundle) -> Callable[..., np.ndarray]:
    """The whole result computed anew in float64, without medsr's readers, interpolation, inferer or transforms."""
    if "network" in bundle.extras:
        forward: Network = bundle.extras["network"](bundle.weights)
    else:
        forward = bundle.network().double()

    def compute(image: np.ndarray, affine: np.ndarray, scale: tuple[float, ...], record: dict[str, Any]) -> np.ndarray:
        image = image.astype(np.float64)
        normalize = bundle.config("inference")["preprocessing"]
        low, high = image.min(), np.percentile(image, 100 if normalize.get("method") == "minmax" else 99.9)
        lr = x = (image - low) / (high - low)
        if not bundle.is_fixed and not bundle.is_arbitrary:
            x = ndimage.zoom(x, scale, order=3, mode="nearest", grid_mode=True)
            x = obeying(x, lr, record) if bundle.start == "consistent" else x
        axis = superior_axis(affine) if bundle.spec.spatial_dims == 2 else None
        slices = torch.as_tensor(x)[None, None] if axis is None else torch.as_tensor(x).movedim(axis, 0)[:, None]
        with torch.no_grad():
            if bundle.is_arbitrary:
                y = forward(slices, [s for k, s in enumerate(scale) if k != axis])
            else:
                y = forward(slices)
        y = y[0, 0] if axis is None else y[:, 0].movedim(0, axis)
        return obeying(y.numpy(), lr, record) * (high - low) + low

    return compute


def obeying(x: np.ndarray, lr: np.ndarray, record: dict[str, Any]) -> np.ndarray:
    """x + A^T (A A^T + mu)^-1 (y - A x) by a dense solution, for the formation that the record states."""
    formation = record["formation"]
    if formation is None:
        return x
    scale = tuple(Fraction(s) for s in record["scale"])
    found = from_dict(formation["degradation"]).matrices(x.shape, lr.shape, scale)
    axes = [np.eye(n) if a is None else a for a, n in zip(found, lr.shape, strict=True)]

    def along(image: np.ndarray, matrices: list[np.ndarray]) -> np.ndarray:
        return np.einsum("ai,bj,ck,ijk->abc", *matrices, image, optimize=True)

    squares = functools.reduce(np.kron, [a @ a.T for a in axes])
    largest = np.prod([np.linalg.norm(a, 2) ** 2 for a in axes])
    mu = mu_of_noise(formation["noise"]) * largest
    solved = np.linalg.solve(squares + mu * np.eye(len(squares)), (lr - along(x, axes)).ravel())
    return x + along(solved.reshape(lr.shape), [a.T for a in axes])


@pytest.fixture(scope="session")
def read_image() -> Callable[[Path], tuple[np.ndarray, np.ndarray, np.dtype]]:
    """Read (array, RAS affine, stored dtype) by nibabel or SimpleITK alone."""

    def read(path: Path) -> tuple[np.ndarray, np.ndarray, np.dtype]:
        if path.name.endswith((".nii", ".nii.gz")):
            image = nib.load(path)
            return np.asarray(image.dataobj), image.affine, image.get_data_dtype()
        import SimpleITK as sitk  # noqa: N813

        image = sitk.ReadImage(str(path))
        array = sitk.GetArrayFromImage(image)
        columns = [image.TransformIndexToPhysicalPoint(index) for index in np.eye(3, dtype=int).tolist()]
        origin = np.array(image.GetOrigin())
        lps = np.eye(4)
        lps[:3, :3] = np.array(columns).T - origin[:, None]
        lps[:3, 3] = origin
        return array.transpose(2, 1, 0), np.diag([-1.0, -1, 1, 1]) @ lps, array.dtype

    return read


@pytest.fixture(scope="session")
def dataset(
    tmp_path_factory: pytest.TempPathFactory, phantom: Callable[..., np.ndarray], left_handed_affine: np.ndarray
) -> Path:
    """A dataset folder with a datalist: two HR volumes to train on, one to validate, two to test."""
    folder = tmp_path_factory.mktemp("dataset")
    sections = {"training": 2, "validation": 1, "test": 2}
    datalist: dict[str, list[dict[str, str]]] = {}
    for section, count in sections.items():
        for k in range(count):
            name = f"{section}_{k}.nii.gz"
            volume = phantom((32, 30, 28), seed=hash_of(name))
            nib.save(nib.Nifti1Image(volume, left_handed_affine), folder / name)
            datalist.setdefault(section, []).append({"label": name})
    (folder / "datalist.json").write_text(json.dumps(datalist))
    return folder


def hash_of(text: str) -> int:
    """A seed, the same in every process."""
    return sum(ord(letter) * 31**k for k, letter in enumerate(text)) % 2**31
