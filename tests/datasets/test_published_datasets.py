"""Data of published tables, as miniature folders of the layouts that are downloaded: found, checked and divided."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from medsr.cli import main
from medsr.data.readers import read_volume
from medsr.datasets.check import check_folder
from medsr.datasets.datalists import assert_patient_wise, datalist, write_datalist
from medsr.datasets.dataset_folder import read_folder
from medsr.datasets.manifest_files import load_manifest
from medsr.datasets.selection import collect
from medsr.datasets.subjects import split_rule
from medsr.errors import InputError

SHAPE = (6, 5, 4)
VALUES = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
LABELS = (VALUES % 4).astype(np.uint8)
OASIS_TEST = {3, 4, 9, 10, 19, 23, 29, 32, 33}
ACDC_TEST = {5, 12, 15, 20, 27, 30, 33, 35, 40, 46, 48, 49, 54, 56, 62, 70, 76, 82, 85, 97}
COVID = [f"coronacases_{k:03d}" for k in range(1, 11)] + [
    *("radiopaedia_4_85506_1", "radiopaedia_7_85703_0", "radiopaedia_10_85902_1", "radiopaedia_10_85902_3"),
    *("radiopaedia_14_85914_0", "radiopaedia_27_86410_0", "radiopaedia_29_86490_1", "radiopaedia_29_86491_1"),
    *("radiopaedia_36_86526_0", "radiopaedia_40_86625_0"),
]
COVID_TEST = {"coronacases_001", "coronacases_004", "radiopaedia_10_85902_1", "radiopaedia_40_86625_0"}


def copies(folder: Path, source: bytes, names: Iterable[str]) -> None:
    """One file under many names: what is in them does not matter here."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source)


def nifti(folder: Path, values: np.ndarray) -> bytes:
    nib.save(nib.Nifti1Image(values, np.diag([-1.0, -1.0, 1.0, 1.0])), folder / "one.nii.gz")
    content = (folder / "one.nii.gz").read_bytes()
    (folder / "one.nii.gz").unlink()
    return content


def oasis(root: Path, numbers: Iterable[int]) -> Path:
    """disc1 as its archive unpacks, with files beside that are of no interest."""
    pairs = {}
    for kind, values in (("image", VALUES), ("labels", LABELS)):
        nib.AnalyzeImage(values[..., None], None).to_filename(root / "one.hdr")
        pairs[kind] = {suffix: (root / f"one.{suffix}").read_bytes() for suffix in ("hdr", "img")}
        for suffix in ("hdr", "img"):
            (root / f"one.{suffix}").unlink()
    for number in numbers:
        name, infix = f"OAS1_{number:04d}_MR1", "n4" if number % 5 else "n3"
        atlas, stem = f"{name}/PROCESSED/MPRAGE/T88_111", f"{name}_mpr_{infix}_anon_111_t88"
        for suffix, content in pairs["image"].items():
            copies(root, content, [f"{atlas}/{stem}_masked_gfc.{suffix}", f"{atlas}/{stem}_gfc.{suffix}"])
            copies(root, content, [f"{name}/RAW/{name}_mpr-1_anon.{suffix}"])
        for suffix, content in pairs["labels"].items():
            copies(root, content, [f"{name}/FSL_SEG/{stem}_masked_gfc_fseg.{suffix}"])
        copies(root, b"", [f"{name}/{name}.txt", f"{name}/{name}.xml", f"{atlas}/{stem}_gfc_tra_90.gif"])
    return root


def disc1() -> list[int]:
    return [number for number in range(1, 43) if number not in (8, 24, 36)]


def brats(root: Path, names: Iterable[str]) -> Path:
    """Cases "HGG/Brats17_CBICA_AAB_1" with their contrasts and delineation."""
    image, labels = nifti(root, VALUES), nifti(root, np.where(LABELS == 3, 4, LABELS).astype(np.uint8))
    for name in names:
        stem = f"{name}/{name.rsplit('/', 1)[-1]}"
        copies(root, image, [f"{stem}_{contrast}.nii.gz" for contrast in ("t1", "t1ce", "t2", "flair")])
        copies(root, labels, [f"{stem}_seg.nii.gz"])
    return root


def acdc(root: Path) -> Path:
    image, labels = nifti(root, VALUES), nifti(root, LABELS)
    for number in range(1, 101):
        name = f"patient{number:03d}/patient{number:03d}"
        frames = [f"{name}_frame01", f"{name}_frame{7 + number % 8:02d}"]
        copies(root, image, [f"{frame}.nii.gz" for frame in frames])
        copies(root, labels, [f"{frame}_gt.nii.gz" for frame in frames])
        copies(root, b"", [f"{name}_4d.nii.gz", f"patient{number:03d}/Info.cfg"])
    return root


def covid(root: Path) -> Path:
    copies(root, nifti(root, VALUES), [f"COVID-19-CT-Seg_20cases/{scan}.nii.gz" for scan in COVID])
    copies(root, nifti(root, LABELS), [f"Lung_and_Infection_Mask/{scan}.nii.gz" for scan in COVID])
    return root


def miniature(folder: Path, name: str, **entries: Any) -> Path:
    """A manifest that differs from the shipped one in allowing any size, and in `entries`."""
    path = folder / f"mini_{name}.yaml"
    path.write_text(yaml.safe_dump({"name": f"mini_{name}", "extends": name, "expected": {}, **entries}))
    return path


def subjects(sections: dict[str, list[dict[str, Any]]]) -> dict[str, set[str]]:
    return {section: {item["subject"] for item in items} for section, items in sections.items()}


def brats_names(name: str) -> list[str]:
    """A 2017 file name for every patient that a manifest lists, whatever the hospital."""
    listed = load_manifest(name).split.listed()
    source = {True: "2013", False: "CBICA"}
    return [f"{'LGG' if k % 3 else 'HGG'}/Brats17_{source[s.isdigit()]}_{s}_1" for k, s in enumerate(sorted(listed))]


# Checked and divided


@pytest.mark.parametrize("name", ["oasis1", "oasis1_published", "oasis1_published_ch4"])
def test_oasis(tmp_path, name, capsys):
    root = oasis(tmp_path, disc1())
    manifest = miniature(tmp_path, name)
    assert main(["data", "check", str(manifest), str(root), "--full"]) == 0, capsys.readouterr().out
    found = subjects(datalist(name, root))
    assert found["test"] == {f"OAS1_{number:04d}" for number in OASIS_TEST}
    assert len(found["training"]) == (30 if "published" in name else 27)
    assert not found["training"] & found["test"]
    leak = {"OAS1_0009", "OAS1_0033", "OAS1_0023"}
    if "published" in name:
        assert found["validation"] == leak
    else:
        assert found["validation"] == {"OAS1_0015", "OAS1_0014", "OAS1_0030"}
    assert ("do not choose a network by them" in capsys.readouterr().out) == ("published" in name)
    item = datalist(name, root, relative=True)["test"][0]
    stem = "OAS1_0003_MR1_mpr_n4_anon_111_t88_masked_gfc"
    assert item["label"] == f"OAS1_0003_MR1/PROCESSED/MPRAGE/T88_111/{stem}.img"
    assert item["segmentation"] == f"OAS1_0003_MR1/FSL_SEG/{stem}_fseg.img"


def test_oasis_discs_side_by_side(tmp_path):
    for disc, numbers in (("disc1", disc1()), ("disc2", [44, 45])):
        (tmp_path / disc).mkdir()
        oasis(tmp_path / disc, numbers)
    found = datalist("oasis1", tmp_path, relative=True)
    assert found["test"][0]["label"].startswith("disc1/OAS1_0003_MR1/")
    assert sum(map(len, found.values())) == 39  # what other discs hold is in no split
    report = check_folder(load_manifest("oasis1"), tmp_path)
    assert report.images["none"] == 2
    assert {finding.kind for finding in report.findings if finding.problem} == {"shape"}


def test_oasis_another_orientation_and_a_missing_subject(tmp_path):
    root = oasis(tmp_path, [number for number in disc1() if number != 42])
    header = next((root / "OAS1_0001_MR1").rglob("*masked_gfc.hdr"))
    raw = bytearray(header.read_bytes())
    raw[252] = 2
    header.write_bytes(raw)
    report = check_folder(load_manifest("oasis1"), root)
    told = [str(finding) for finding in report.findings]
    assert sum("expected axes that point to LAS, got ASL" in text for text in told) == 1
    assert "no image of subject OAS1_0042, which is in train" in told


@pytest.mark.parametrize(("name", "training", "test"), [("acdc", 72, 20), ("acdc_published", 80, 20)])
def test_acdc(tmp_path, name, training, test, capsys):
    (tmp_path / "ACDC" / "database" / "training").mkdir(parents=True)
    acdc(tmp_path / "ACDC" / "database" / "training")
    assert main(["data", "check", str(miniature(tmp_path, name)), str(tmp_path)]) == 0, capsys.readouterr().out
    sections = datalist(name, tmp_path, relative=True)
    found = subjects(sections)
    assert found["test"] == {f"patient{number:03d}" for number in ACDC_TEST}
    assert (len(found["training"]), len(found["validation"])) == (training, 8)
    assert not found["training"] & (found["test"] | found["validation"])
    assert bool(found["validation"] & found["test"]) == (name == "acdc_published")
    assert [len(sections[key]) for key in ("training", "test")] == [2 * training, 2 * test]  # two phases each
    item = sections["test"][0]
    assert item["segmentation"] == item["label"].replace(".nii.gz", "_gt.nii.gz")
    assert item["resolution"] == "native"


def test_covid_ct_seg(tmp_path, capsys):
    root = covid(tmp_path)
    for name in ("covid19_ct_seg", "covid19_ct_seg_published"):
        assert main(["data", "check", str(miniature(tmp_path, name)), str(root), "--full"]) == 0, capsys.readouterr()
    published, clean = datalist("covid19_ct_seg_published", root), datalist("covid19_ct_seg", root)
    names = {
        key: [{Path(item["label"]).name[:-7] for item in items} for items in sections.values()]
        for key, sections in (("published", published), ("clean", clean))
    }
    training, validation, test = names["published"]
    assert (len(training), test) == (16, COVID_TEST)
    assert validation == {"radiopaedia_10_85902_1", "coronacases_004"}
    training, validation, test = names["clean"]
    assert test == COVID_TEST
    assert len(training) + len(validation) == 15
    assert not any("_10_85902" in scan for scan in training | validation)  # the other study of a test case
    assert subjects(clean)["training"] >= {"radiopaedia_29"}
    assert_patient_wise(clean)


def test_covid_layout_of_the_publication(tmp_path):
    copies(tmp_path, nifti(tmp_path, VALUES), [f"{scan}.nii.gz" for scan in COVID])
    copies(tmp_path, nifti(tmp_path, LABELS), [f"mask/{scan}.nii.gz" for scan in COVID])
    item = datalist("covid19_ct_seg", tmp_path, relative=True)["test"][0]
    assert item["segmentation"] == f"mask/{item['label']}"


def test_covid19_20_keeps_scans_of_one_patient_together(tmp_path):
    image = nifti(tmp_path, VALUES)
    numbers = [f"{number:04d}{suffix}" for number in range(0, 700, 9) for suffix in ("_0", "_1")]
    copies(tmp_path, image, [f"COVID-19-20_v2/Train/volume-covid19-A-{n}_ct.nii.gz" for n in numbers])
    copies(tmp_path, b"", [f"COVID-19-20_v2/Train/volume-covid19-A-{n}_seg.nii.gz" for n in numbers])
    copies(tmp_path, image, ["COVID-19-20_v2/Validation/volume-covid19-A-0003_ct.nii.gz"])
    sections = datalist("covid19_20", tmp_path)
    assert_patient_wise(sections)
    assert sum(map(len, sections.values())) == len(numbers) + 1
    assert len(sections["training"]) > len(sections["test"]) > 0


# Channels


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("brats2017", (112, 8, 30)),
        ("brats2017_published", (120, 8, 30)),
        ("brats2017_published_ch4", (50, 3, 10)),
    ],
)
def test_brats_counts_and_channels(tmp_path, name, counts):
    brats(tmp_path, brats_names(name))
    sections = datalist(name, tmp_path, relative=True)
    assert tuple(map(len, sections.values())) == counts
    found = subjects(sections)
    assert not found["training"] & (found["test"] | found["validation"])
    item = sections["test"][0]
    folder, stem = item["segmentation"].rsplit("/", 1)
    case = stem.removesuffix("_seg.nii.gz")
    assert item["label"] == [f"{folder}/{case}_{contrast}.nii.gz" for contrast in ("t1ce", "t1", "t2", "flair")]
    assert item["modality"] == "T1ce+T1w+T2w+FLAIR"


def test_brats_check_and_datalist_by_command(tmp_path, capsys):
    root = tmp_path / "Brats17TrainingData"
    root.mkdir()
    names = {"train": ["AAB", "135", "5"], "val": ["241"], "test": ["AAG", "9"]}
    cases = ["HGG/Brats17_CBICA_AAB_1", "HGG/Brats17_TCIA_135_1", "LGG/Brats17_2013_5_1", "LGG/Brats17_TCIA_241_1"]
    brats(root, [*cases, "HGG/Brats17_CBICA_AAG_1", "LGG/Brats17_2013_9_1", "LGG/Brats17_2013_8_1"])
    manifest = miniature(tmp_path, "brats2017", split={"rule": "listed", "description": "Few.", **names})
    assert main(["data", "check", str(manifest), str(tmp_path)]) == 0
    assert "train: 12 images of 3 subjects" in capsys.readouterr().out
    output = tmp_path / "datalist.json"
    assert main(["data", "datalist", str(manifest), str(tmp_path), "-o", str(output)]) == 0
    written = collect(tmp_path, "test")
    declared = collect(tmp_path / "Brats17TrainingData", "test", {str(manifest): "."})
    assert [item["label"] for item in written] == [item["label"] for item in declared]
    assert all(Path(path).is_file() for item in written for path in (*item["label"], item["segmentation"]))
    expected = {
        "plane": "axial",
        "crop": {"left-right": 192, "anterior-posterior": 192},
        "keep": {"of": "segmentation", "above": 100},
        "normalisation": "min-max",
        "labels": {"4": 3},
    }
    assert written[0]["preparation"] == declared[0]["preparation"] == expected


def test_brats_2018_names_the_same_patients(tmp_path):
    for folder, names in (
        ("a", ["HGG/Brats17_TCIA_241_1", "LGG/Brats17_2013_5_1", "HGG/Brats17_CBICA_AAB_1"]),
        ("b", ["HGG/Brats18_TCIA06_241_1", "LGG/Brats18_2013_5_1", "HGG/Brats18_CBICA_AAB_1"]),
    ):
        (tmp_path / folder).mkdir()
        brats(tmp_path / folder, names)
    first, second = (subjects(datalist("brats2017_published", tmp_path / folder)) for folder in "ab")
    assert first == second == {"training": {"5", "AAB"}, "validation": {"241"}, "test": {"241"}}


def test_brats_one_contrast_and_a_missing_one(tmp_path):
    brats(tmp_path, ["HGG/Brats17_CBICA_AAB_1", "HGG/Brats17_CBICA_ALN_1"])
    single = datalist("brats2017", tmp_path, relative=True, modalities=["T2w"])["test"][0]
    assert single["label"] == "HGG/Brats17_CBICA_ALN_1/Brats17_CBICA_ALN_1_t2.nii.gz"
    only = datalist("brats_t1ce", tmp_path, relative=True)
    assert only["test"][0]["label"] == "HGG/Brats17_CBICA_ALN_1/Brats17_CBICA_ALN_1_t1ce.nii.gz"
    assert only["training"][0]["modality"] == "T1ce"
    (tmp_path / "HGG/Brats17_CBICA_ALN_1/Brats17_CBICA_ALN_1_flair.nii.gz").unlink()
    with pytest.raises(
        InputError, match=r"expected FLAIR beside HGG/Brats17_CBICA_ALN_1/.*, found none; complete the dataset"
    ):
        datalist("brats2017", tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        [f"HGG/BraTS19_CBICA_AA{letter}_1" for letter in "ABCDEFGHIJKLMNOP"],
        [f"BraTS20_Training_{number:03d}" for number in range(1, 17)],
        [f"BraTS2021_{number:05d}" for number in range(0, 160, 10)],
    ],
)
def test_later_brats(tmp_path, names):
    sections = datalist("brats_later", brats(tmp_path, names))
    assert sum(map(len, sections.values())) == 16
    assert all(len(item["label"]) == 4 for items in sections.values() for item in items)
    assert_patient_wise(sections)


# DIV2K


def test_div2k(tmp_path):
    from PIL import Image

    values = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for name in ("DIV2K_train_HR/0001", "DIV2K_train_HR/0800", "DIV2K_valid_HR/0801", "DIV2K_valid_HR/0900"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    sections = datalist("div2k", tmp_path, relative=True)
    assert [[item["label"] for item in items] for items in sections.values()] == [
        ["DIV2K_train_HR/0001.png", "DIV2K_train_HR/0800.png"],
        ["DIV2K_valid_HR/0801.png", "DIV2K_valid_HR/0900.png"],
        [],
    ]
    picture = tmp_path / "DIV2K_train_HR/0001.png"
    volume = read_volume(picture, luminance=True)
    expected = values.astype(float) @ (0.299, 0.587, 0.114)
    assert volume.data.shape == (7, 5, 1)
    np.testing.assert_allclose(volume.data[..., 0], expected.T, atol=0.51)  # rounded, as 8 bits are
    assert "luminance" in volume.meta["warnings"][0]
    with pytest.raises(InputError, match="expected a grey picture"):
        read_volume(picture)
    report = check_folder(load_manifest(miniature(tmp_path, "div2k")), tmp_path, full=True)
    missing = {str(finding) for finding in report.findings if finding.problem}
    assert missing == {f"no image of subject part{k}, which is in train" for k in range(2, 8)}


# What a manifest may say of it


def test_leaks_are_allowed_only_where_a_manifest_names_them(tmp_path):
    root = oasis(tmp_path, disc1())
    manifest = load_manifest("oasis1_published")
    sections = datalist(manifest, root)
    write_datalist(manifest, sections, tmp_path / "published.json")
    with pytest.raises(InputError, match="is in validation and in test"):
        assert_patient_wise(sections)
    with pytest.raises(InputError, match="is in validation and in test"):
        write_datalist(load_manifest("oasis1"), sections, tmp_path / "clean.json")
    worse = {**sections, "training": [*sections["training"], sections["validation"][0]]}
    with pytest.raises(InputError, match="a network would be tested on someone it was trained on"):
        write_datalist(
            manifest,
            {"training": worse["training"], "test": [*sections["test"], sections["training"][0]]},
            tmp_path / "x.json",
        )
    assert not (tmp_path / "clean.json").exists()
    with pytest.raises(InputError, match="expected subjects of the test split in validate_on_test, got also b"):
        split_rule({"rule": "listed", "description": "", "train": ["b"], "test": ["a"], "validate_on_test": ["a", "b"]})


def test_items_are_plain_json(tmp_path):
    root = brats(tmp_path, ["HGG/Brats17_2013_5_1"])
    items = collect(root, "test", {"brats2017_published_ch4": "."})
    assert json.loads(json.dumps(items)) == items
    assert items[0]["preparation"]["keep"] == {"of": "image", "above": 0}
    assert all(Path(path).is_absolute() for path in items[0]["label"])


def test_extending(tmp_path, monkeypatch):
    def own(name: str, **entries: Any) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"name": name, **entries}))
        return path

    manifest = load_manifest(own("mine", extends="oasis1_published_ch4", title="Mine", preparation=None))
    assert (manifest.title, manifest.preparation, manifest.degradation) == ("Mine", None, "bicubic-binomial")
    assert manifest.split.validate_on_test == ("OAS1_0009", "OAS1_0023", "OAS1_0033")
    with pytest.raises(InputError, match="extends 'nobody': expected the name of another manifest"):
        load_manifest(own("lost", extends="nobody"))
    monkeypatch.setenv("MEDSR_MANIFESTS", str(tmp_path))
    own("one", extends="other")
    with pytest.raises(InputError, match="expected the name of another manifest"):
        load_manifest(own("other", extends="one"))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"preparation": {"plane": "axial", "normalisation": "min-max"}}, "at preparation"),
        ({"preparation": {"plane": "x", "normalisation": "none", "description": "x"}}, "at preparation/plane"),
        (
            {"preparation": {"plane": "axial", "normalisation": "none", "description": "x", "crop": {"up": 3}}},
            "at preparation/crop",
        ),
        (
            {"preparation": {"plane": "axial", "normalisation": "z-score", "description": "x"}},
            "at preparation/normalisation",
        ),
        (
            {"preparation": {"plane": "axial", "normalisation": "none", "description": "x", "keep": {"of": "image"}}},
            "at preparation/keep",
        ),
        ({"channels": ["T1w", "PD"]}, "no contrast named PD"),
        ({"expected": {"orientation": "XYZ"}}, "at expected/orientation"),
    ],
)
def test_refused_manifests(tmp_path, entry, message):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "extends": "brats2017", **entry}))
    with pytest.raises(InputError, match="not a valid manifest") as caught:
        load_manifest(path)
    assert message in str(caught.value)


def test_two_copies_are_found(tmp_path):
    root = covid(tmp_path)
    folder = read_folder(load_manifest("covid19_ct_seg"), root)
    assert len(folder.images) == 20
    assert not folder.unexpected
    assert not folder.missing
