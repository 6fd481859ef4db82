"""The formation of an image as its header or its sidecar supports it."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from monai.data import list_data_collate
from monai.transforms import Compose, LoadImaged, Orientationd

from medsr.data.acquisition import ACQUISITION, Acquisition
from medsr.data.readers import read_volume
from medsr.degradation import KspaceTruncationDegradation, SliceProfileDegradation
from medsr.formation import formation_from_header
from medsr.geometry import spacing_of

SHAPE = (16, 12, 6)
TWO = (Fraction(2),) * 3
KSPACE = KspaceTruncationDegradation()


@pytest.fixture
def series(
    write_dicom: Callable[..., None], phantom: Callable[..., np.ndarray], oblique_affine: np.ndarray, tmp_path: Path
) -> Callable[..., Path]:
    """Write a series with these tags; spacing 0.9, 1.1, 2.5 mm."""

    def write(per_slice: Callable[[int], dict[str, Any]] = lambda k: {}, **tags: Any) -> Path:
        def change(k: int, dataset: Any) -> None:
            for name, value in {"Modality": "MR", **tags, **per_slice(k)}.items():
                setattr(dataset, name, value)

        write_dicom(tmp_path / "series", phantom(SHAPE), oblique_affine, change)
        return tmp_path / "series"

    return write


def found(path: Path) -> list[Any]:
    volume = read_volume(path)
    acquisition = pickle.loads(pickle.dumps(volume.meta[ACQUISITION]))
    return formation_from_header(acquisition, TWO, spacing_of(volume.affine), volume.affine)


def test_3d_mr_is_truncated_along_every_axis(series: Callable[..., Path]) -> None:
    assert [axis.degradation for axis in found(series(MRAcquisitionType="3D"))] == [KSPACE] * 3


def test_overlapping_partitions_are_zero_filled(series: Callable[..., Path]) -> None:
    axes = found(series(MRAcquisitionType="3D", SliceThickness="5", SpacingBetweenSlices="2.5"))
    assert axes[2].degradation == KspaceTruncationDegradation(extent=0.5)
    assert axes[2].acquired == 0.5
    assert "5 mm partitions, zero-filled to one every 2.5 mm" in axes[2].reason


@pytest.mark.parametrize(("thickness", "how"), [(2.0, "with gaps"), (2.5, "side by side"), (3.0, "overlapping")])
def test_2d_mr_has_a_slice_profile(series: Callable[..., Path], thickness: float, how: str) -> None:
    axes = found(series(MRAcquisitionType="2D", SliceThickness=str(thickness)))
    assert [axis.degradation for axis in axes[:2]] == [KSPACE] * 2
    assert isinstance(axes[2].degradation, SliceProfileDegradation)
    assert axes[2].degradation.thickness * axes[2].degradation.fwhm == pytest.approx(thickness / 2.5)
    assert how in axes[2].reason


@pytest.mark.parametrize(
    ("matrix", "direction", "percent", "expected"),
    [  # the image has 16 columns and 12 rows
        ([0, 16, 6, 0], "ROW", None, (6 / 16, 1.0)),  # phase along a row
        ([8, 0, 0, 12], "COL", None, (0.5, 1.0)),
        ([8, 0, 0, 6], "COL", None, (0.5, 0.5)),
        # 6 lines over 6.6 of the 13.2 mm shown are as dense as 12 over all of them
        ([16, 0, 0, 6], "COL", 100 * 6.6 / 14.4, (1.0, 1.0)),
        ([32, 0, 0, 24], "COL", None, (1.0, 1.0)),  # oversampled
        ([8, 0, 0, 4], None, None, (0.5, 8 / 12)),  # direction unknown: the sharper for both
    ],
)
def test_the_acquisition_matrix(
    series: Callable[..., Path], matrix: list[int], direction: str | None, percent: float | None, expected: Any
) -> None:
    tags = {"MRAcquisitionType": "2D", "AcquisitionMatrix": matrix}
    tags |= {"InPlanePhaseEncodingDirection": direction} if direction else {}
    tags |= {"PercentPhaseFieldOfView": f"{percent:.6f}"} if percent else {}
    axes = found(series(**tags))
    assert [axis.acquired for axis in axes[:2]] == pytest.approx(expected, abs=1e-4)
    assert [axis.degradation.extent for axis in axes[:2]] == pytest.approx(expected, abs=1e-4)
    assert [("zero-filled" in axis.reason) for axis in axes[:2]] == [part < 1 for part in expected]


@pytest.mark.parametrize(
    ("kernel", "width"),
    [
        *[(name, 0.9) for name in ("B30f", "Br40d", "STANDARD", "FC08", "B")],
        *[(name, None) for name in ("B70f", "BONEPLUS", "FC52", "L", "LUNG")],
    ],
)
def test_ct_kernels(series: Callable[..., Path], kernel: str, width: float | None) -> None:
    axes = found(series(Modality="CT", ConvolutionKernel=kernel, SliceThickness="2"))
    assert axes[2].degradation.thickness == pytest.approx(0.8)
    if width is None:
        assert [axis.degradation for axis in axes[:2]] == [KSPACE] * 2
    else:
        spacing = (0.9, 1.1)
        widths = [axis.degradation.fwhm * mm for axis, mm in zip(axes[:2], spacing, strict=True)]
        assert widths == pytest.approx([width] * 2, rel=1e-3)
    assert f"kernel {kernel} is" in axes[0].reason


@pytest.mark.parametrize(
    ("tags", "axis", "message"),
    [
        ({}, 0, "says no MR acquisition type"),
        ({"Modality": "PT"}, 2, "says no MR acquisition type"),
        ({"Modality": "CT", "ConvolutionKernel": "XYZ"}, 0, "kernel XYZ is in no list"),
        ({"Modality": "CT"}, 1, "kernel .none stated. is in no list"),
        ({"MRAcquisitionType": "2D", "SliceThickness": "0.1"}, 2, "contradict each other"),
        ({"MRAcquisitionType": "2D", "SliceThickness": None}, 2, "gives no slice thickness"),
        ({"MRAcquisitionType": "2D", "AcquisitionMatrix": [1, 0, 0, 12]}, 0, "contradict each other"),
    ],
)
def test_what_a_header_does_not_support_is_left_to_the_image(
    series: Callable[..., Path], tags: dict[str, Any], axis: int, message: str
) -> None:
    tags = {"InPlanePhaseEncodingDirection": "COL", **tags}
    taken = found(series(**tags))[axis]
    assert taken.degradation is None
    assert re.search(message, taken.reason)


def test_a_thickness_that_differs_between_slices_is_none(series: Callable[..., Path]) -> None:
    path = series(lambda k: {"SliceThickness": "2" if k else "3"}, MRAcquisitionType="2D")
    assert found(path)[2].degradation is None
    assert "SliceThickness differs between slices" in read_volume(path).meta[ACQUISITION].facts["notes"]


def test_an_enhanced_image_says_the_same(
    write_enhanced: Callable[..., Any], phantom: Callable[..., np.ndarray], oblique_affine: np.ndarray, tmp_path: Path
) -> None:
    def change(image: Any) -> None:
        image.MRAcquisitionType = "2D"
        shared = image.SharedFunctionalGroupsSequence[0]
        shared.PixelMeasuresSequence[0].SliceThickness = "2"
        geometry = pydicom.Dataset()
        geometry.InPlanePhaseEncodingDirection = "COLUMN"
        geometry.MRAcquisitionFrequencyEncodingSteps, geometry.MRAcquisitionPhaseEncodingStepsInPlane = 8, 9
        shared.MRFOVGeometrySequence = [geometry]

    write_enhanced(tmp_path / "image.dcm", phantom(SHAPE), oblique_affine, change)
    axes = found(tmp_path / "image.dcm")
    assert [axis.degradation for axis in axes] == [
        KspaceTruncationDegradation(extent=0.5),
        KspaceTruncationDegradation(extent=0.75),
        SliceProfileDegradation(thickness=0.8),
    ]


SIDECAR = {
    "Modality": "MR",
    "MRAcquisitionType": "2D",
    "SliceThickness": 2.0,
    "SpacingBetweenSlices": 2.5,
    "PhaseEncodingDirection": "j-",
    "AcquisitionMatrixPE": 6,
    "ReconMatrixPE": 12,
    "PartialFourier": 0.75,
}


@pytest.fixture
def nifti(
    phantom: Callable[..., np.ndarray], oblique_affine: np.ndarray, tmp_path: Path
) -> Callable[[dict[str, Any]], Path]:
    def write(sidecar: dict[str, Any] | str) -> Path:
        nib.save(nib.Nifti1Image(phantom(SHAPE), oblique_affine), tmp_path / "scan.nii.gz")
        text = sidecar if isinstance(sidecar, str) else json.dumps(sidecar)
        (tmp_path / "scan.json").write_text(text, encoding="utf-8")
        return tmp_path / "scan.nii.gz"

    return write


def test_a_sidecar(nifti: Callable[..., Path]) -> None:
    axes = found(nifti(SIDECAR))
    assert axes[0].degradation == KSPACE
    assert axes[1].degradation == KspaceTruncationDegradation(extent=0.5)
    assert axes[2].degradation == SliceProfileDegradation(thickness=0.8)


@pytest.mark.parametrize("codes", ["RAS", "SPL", "IRP", "ASR"])
def test_axes_are_found_again_after_reorientation(nifti: Callable[..., Path], codes: str) -> None:
    load = LoadImaged("image", reader="medsr.data.readers.VolumeReader", ensure_channel_first=True)
    image = Compose([load, Orientationd("image", codes, labels=None)])({"image": nifti(SIDECAR)})["image"]
    affine = image.affine.numpy()
    axes = formation_from_header(Acquisition.of(image.meta), TWO, spacing_of(affine), affine)
    through = spacing_of(affine).index(pytest.approx(2.5))
    phase = spacing_of(affine).index(pytest.approx(1.1))
    assert isinstance(axes[through].degradation, SliceProfileDegradation)
    assert axes[phase].degradation.extent == 0.5
    assert axes[3 - through - phase].degradation.extent == 1.0


def test_an_axis_that_was_resampled_is_not_as_acquired(nifti: Callable[..., Path]) -> None:
    volume = read_volume(nifti(SIDECAR))
    axes = formation_from_header(volume.meta[ACQUISITION], TWO, (0.9, 1.1, 1.0))
    assert axes[2].degradation is None
    assert "resampled" in axes[2].reason
    assert axes[1].degradation is not None


def test_axes_that_are_not_enlarged_have_none(nifti: Callable[..., Path]) -> None:
    volume = read_volume(nifti(SIDECAR))
    axes = formation_from_header(volume.meta[ACQUISITION], (Fraction(1), Fraction(1), Fraction(3)), (0.9, 1.1, 2.5))
    assert axes[:2] == [None, None]


@pytest.mark.parametrize(
    "sidecar",
    [
        "{not json",
        "[1, 2]",
        "{}",
        '{"Modality": "MR"}',
        '{"SliceThickness": "thick"}',
        '{"SliceThickness": NaN}',
        json.dumps({**SIDECAR, "GeneratedBy": [{"Name": "another program"}]}),
        json.dumps({**SIDECAR, "Sources": ["raw.nii.gz"]}),
    ],
)
def test_sidecars_that_say_nothing(nifti: Callable[..., Path], sidecar: str) -> None:
    assert Acquisition.of(read_volume(nifti(sidecar)).meta).facts == {}


def test_a_matrix_that_is_not_the_image_s_is_not_used(nifti: Callable[..., Path]) -> None:
    facts = read_volume(nifti({**SIDECAR, "ReconMatrixPE": 24})).meta[ACQUISITION].facts
    assert "samples" not in facts
    assert "ReconMatrixPE is 24, but the image has 12 voxels along axis 1" in facts["notes"]


def test_acquisitions_are_collated_for_each_image(nifti: Callable[..., Path], series: Callable[..., Path]) -> None:
    load = LoadImaged("image", reader="medsr.data.readers.VolumeReader", ensure_channel_first=True)
    items = [load({"image": nifti(SIDECAR)}), load({"image": series(MRAcquisitionType="3D")})]
    batch = list_data_collate(items)
    assert [one.facts["source"] for one in batch["image"].meta[ACQUISITION]] == ["sidecar", "header"]
