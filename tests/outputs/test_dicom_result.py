"""DICOM in, DICOM out: the derived series that the saving transform writes, and its record."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImaged

from medsr.data.readers import read_volume
from medsr.errors import InputError, OutputError
from medsr.inferers import SuperResolutionInferer
from medsr.networks import create
from medsr.outputs import SaveImageWithRecordd
from medsr.transforms import NormalizeIntensityRecordedd, RestoreIntensityd, SetSuperResolutionGridd

SHAPE = (8, 7, 6)
Enlarge = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return create("ReCNN", depth=2, features=2)


@pytest.fixture
def enlarge(network: torch.nn.Module) -> Enlarge:
    """An item as it reaches the saving transform, from a file or folder."""

    def make(source: Path, **options: Any) -> dict[str, Any]:
        load = LoadImaged("image", reader="medsr.data.readers.VolumeReader", ensure_channel_first=True)
        inferer = SuperResolutionInferer(**{"scale": 2, **options})
        item = NormalizeIntensityRecordedd("image")(load({"image": str(source)}))
        item["pred"] = inferer(item["image"][None], network)[0]
        item = RestoreIntensityd("pred")(item)
        return SetSuperResolutionGridd("pred")(item)

    return make


@pytest.fixture
def series(
    write_dicom: Callable[..., None],
    phantom: Callable[..., np.ndarray],
    oblique_affine: np.ndarray,
    tmp_path: Path,
) -> Path:
    def identify(k: int, image: Any) -> None:
        image.PatientName, image.PatientID, image.FrameOfReferenceUID = "Doe^Jane", "4711", "1.2.3.9"

    write_dicom(tmp_path / "study" / "head", phantom(SHAPE), oblique_affine, identify)
    return tmp_path / "study" / "head"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_the_series_is_the_volume_and_the_record_names_both(
    enlarge: Enlarge, series: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    item = enlarge(series, ensemble=True)
    out = tmp_path / "out"
    save = SaveImageWithRecordd(out, tiny_bundle, output_ext="dicom", preview=False, consistency=True)
    saved = save(item)["saved"]
    assert saved == str(out / "head_sr")
    assert names(out) == {"head_sr", "head_sr.json", "head_sr_std.nii.gz", "head_sr_consistency.nii.gz"}
    assert names(out / "head_sr") == {f"IM{k:04d}.dcm" for k in range(1, 13)}
    again = read_volume(out / "head_sr")
    assert np.abs(again.data - item["pred"].numpy()[0]).max() <= 0.5001
    np.testing.assert_allclose(again.affine, item["pred"].affine, rtol=0, atol=1e-6)
    text = (out / "head_sr.json").read_text()
    record = json.loads(text)
    image = pydicom.dcmread(out / "head_sr" / "IM0001.dcm")
    assert record["dicom"] == {
        "source_series_uid": "1.2.3.4",
        "series_uid": image.SeriesInstanceUID,
        "images": 12,
        "rescale_slope": 1.0,
        "rescale_intercept": -1024.0,
    }
    assert "Doe" not in text
    assert "4711" not in text
    assert image.PatientName == "Doe^Jane"
    assert image.SeriesDescription == "SR x2 phantom"
    program = image.ContributingEquipmentSequence[-1]
    assert program.ManufacturerModelName == "tinysr 0.1.0"
    assert record["method"]["weights_sha256"] in program.ContributionDescription
    assert f"medsr {record['medsr']}" in program.SoftwareVersions


def test_the_formation_stands_in_the_record_the_log_and_the_series(
    enlarge: Enlarge, series: Path, tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save = SaveImageWithRecordd(tmp_path, tiny_bundle, output_ext="dicom", preview=False)
    with caplog.at_level(logging.INFO):
        saved = Path(save(enlarge(series, formation="block/block/profile:thickness=0.8"))["saved"])
    said = "block-mean / block-mean / slice-profile (stated)"
    assert f"head: formation {said}" in caplog.text
    description = pydicom.dcmread(saved / "IM0001.dcm").DerivationDescription
    assert f"Consistent with the formation {said}." in description
    formation = json.loads((tmp_path / "head_sr.json").read_text())["formation"]
    assert formation["origin"] == "stated"
    assert formation["degradation"]["axes"][2]["thickness"] == 0.8


def test_a_repeated_run_makes_the_same_series_and_another_run_another(
    enlarge: Enlarge, series: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    uids = []
    for folder, options in (("a", {}), ("b", {}), ("c", {"scale": (1, 1, 2)}), ("d", {"settings": {"precision": "x"}})):
        settings = options.pop("settings", {})
        item = enlarge(series, **options)
        save = SaveImageWithRecordd(
            tmp_path / folder, tiny_bundle, output_ext="dicom", preview=False, settings=settings
        )
        images = [pydicom.dcmread(path) for path in sorted(Path(save(item)["saved"]).iterdir())]
        uids.append((images[0].SeriesInstanceUID, *(image.SOPInstanceUID for image in images)))
    assert uids[0] == uids[1], "whatever the folder"
    assert len({series for series, *_ in uids}) == 3
    first = {found for found, *_ in uids}
    image = pydicom.dcmread(series / "003.dcm")
    pixels = image.pixel_array.ravel()  # edited by hand: two pixels change places, the UID stays
    assert pixels[0] != pixels[1]
    image.PixelData = pixels[[1, 0, *range(2, pixels.size)]].tobytes()
    image.save_as(series / "003.dcm")
    for folder in ("edited", "shortened"):
        item = enlarge(series)
        save = SaveImageWithRecordd(tmp_path / folder, tiny_bundle, output_ext="dicom", preview=False)
        assert pydicom.dcmread(Path(save(item)["saved"]) / "IM0001.dcm").SeriesInstanceUID not in first
        (series / "000.dcm").unlink(missing_ok=True)


def test_scale_1_returns_the_stored_values(enlarge: Enlarge, series: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    item = enlarge(series, scale=1)
    saved = SaveImageWithRecordd(tmp_path / "out", tiny_bundle, output_ext="dicom", preview=False)(item)
    for new, old in zip(sorted(Path(saved["saved"]).iterdir()), sorted(series.iterdir()), strict=True):
        derived, source = pydicom.dcmread(new), pydicom.dcmread(old)
        assert derived.PixelData == source.PixelData
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            np.testing.assert_allclose(derived[keyword].value, source[keyword].value, rtol=0, atol=1e-8)


def test_nifti_of_a_series_names_it(enlarge: Enlarge, series: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    item = enlarge(series)
    SaveImageWithRecordd(tmp_path / "out", tiny_bundle, preview=False)(item)
    assert json.loads((tmp_path / "out" / "head_sr.json").read_text())["dicom"] == {"source_series_uid": "1.2.3.4"}


def test_what_is_not_dicom_is_refused(enlarge: Enlarge, series: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    item = enlarge(series)
    for source in ("scan.nii.gz", ""):
        image = MetaTensor(item["image"].as_tensor(), affine=item["image"].affine, meta={"filename_or_obj": source})
        save = SaveImageWithRecordd(tmp_path / "out", tiny_bundle, output_ext="dicom", preview=False)
        with pytest.raises(InputError, match="expected a DICOM input to write DICOM") as caught:
            save({**item, "image": image})
        assert str(caught.value).startswith(source or "the image")
    assert names(tmp_path / "out") == set()


def test_another_modality_is_refused_and_nothing_is_left(
    enlarge: Enlarge, series: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    for path in series.iterdir():
        image = pydicom.dcmread(path)
        image.Modality, image.SOPClassUID = "PT", pydicom.uid.PositronEmissionTomographyImageStorage
        image.save_as(path)
    item = enlarge(series)
    save = SaveImageWithRecordd(tmp_path / "out", tiny_bundle, output_ext="dicom", preview=False)
    with pytest.raises(InputError, match=r"modality MR or CT to write DICOM, got PT; write \.nii\.gz instead"):
        save(item)
    assert names(tmp_path / "out") == set()


def test_folders_in_the_way(enlarge: Enlarge, series: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    item = enlarge(series)
    options = {"output_ext": "dicom", "preview": False}
    before = sorted(path.read_bytes() for path in series.iterdir())
    with pytest.raises(OutputError, match="expected no folder of that name"):  # its own input
        SaveImageWithRecordd(series.parent, tiny_bundle, output_postfix="", **options)(item)
    with pytest.raises(InputError, match="would be written into its input head"):
        SaveImageWithRecordd(series, tiny_bundle, **options)(item)
    (tmp_path / "out" / "head_sr").mkdir(parents=True)
    (tmp_path / "out" / "head_sr" / "thesis.tex").write_text("mine")
    save = SaveImageWithRecordd(tmp_path / "out", tiny_bundle, **options)
    with pytest.raises(OutputError, match="got one that holds other files"):
        save(item)
    (tmp_path / "out" / "head_sr" / "thesis.tex").unlink()
    save(item)
    save(item)  # over its own result
    assert sorted(path.read_bytes() for path in series.iterdir()) == before
    assert names(tmp_path / "out") == {"head_sr", "head_sr.json"}
