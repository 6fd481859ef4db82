"""Manifests, the rules in them, folders read through them, and the datalists that come out."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from medsr.datasets.check import check_folder
from medsr.datasets.datalists import assert_patient_wise, datalist, datalist_of, write_datalist
from medsr.datasets.dataset_folder import read_folder
from medsr.datasets.manifest import parse_manifest
from medsr.datasets.manifest_files import (
    list_manifests,
    load_manifest,
    manifest_directory,
    manifest_paths,
    manifest_schema,
    read_document,
    validate_document,
)
from medsr.datasets.subjects import SPLITS, split_rule, subject_rule
from medsr.errors import InputError, OutputError

NAMES = sorted(path.stem for path in manifest_directory().glob("*.yaml"))


def save(path: Path, shape=(35, 50, 35), spacing=(1.0, 1.0, 1.0), values=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) if values is None else values
    nib.save(nib.Nifti1Image(data, np.diag([*spacing, 1.0])), path)
    return path


def save_label(path: Path, shape=(35, 50, 35), top: int = 2) -> Path:
    return save(path, values=(np.indices(shape).sum(0) % (top + 1)).astype(np.uint8))


@pytest.fixture
def hippocampus(tmp_path: Path) -> Path:
    """Six subjects in the folder layout: both sides of 7, 8, 9 and 10, one of 11 and 12."""
    for case in (13, 14, 15, 16, 17, 18, 19, 20, 22, 23):
        save(tmp_path / "images" / f"hippocampus_{case:03d}.nii.gz")
        save_label(tmp_path / "labels" / f"hippocampus_{case:03d}.nii.gz")
    return tmp_path


def own_manifest(tmp_path: Path, **changes) -> Path:
    document = {
        "name": "own",
        "title": "Own",
        "description": "Own data.",
        "source": {"access": "open", "urls": ["https://example.org"], "get": "Ask."},
        "licence": {"name": "CC0-1.0", "redistribute": "yes", "derive": "yes"},
        "citation": ["Own"],
        "modality": ["T1w"],
        "dimensions": 3,
        "layouts": [
            {
                "name": "flat",
                "root": ".",
                "images": ["*.nii"],
                "pattern": r"^(?P<subject>[a-z]+)(?P<scan>[0-9]*)\.nii",
            }
        ],
        "subject": {"rule": "entity", "entity": "subject", "description": "Letters."},
        "split": {
            "rule": "hash",
            "seed": "1",
            "train": 0.5,
            "val": 0.25,
            "test": 0.25,
            "description": "Hash.",
        },
        "expected": {},
        "intensity": "min-max",
        "degradation": "gaussian-blur",
    }
    document.update(changes)
    path = tmp_path / f"{document['name']}.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


# Manifests


@pytest.mark.parametrize("name", NAMES)
def test_shipped_manifest_validates_and_loads(name):
    path = manifest_paths()[name]
    document = read_document(path)
    validate_document(document, path)
    manifest = load_manifest(name)
    assert manifest.name == name
    assert manifest.access in ("open", "registration")
    assert all(layout.checksums is None or path.with_name(layout.checksums).is_file() for layout in manifest.layouts)


def test_schema_is_a_valid_draft_2020_12_schema():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(manifest_schema())


@pytest.mark.parametrize("name", NAMES)
def test_listed_files_have_one_known_split_each(name):
    manifest = load_manifest(name)
    listed = manifest.split.listed()
    for record in manifest.files:
        assert record.subject in listed
        assert record.sha256
        assert record.licence
        assert record.modality in manifest.modality
    assert {record.subject for record in manifest.files} in (set(), set(listed))


def test_nobody_is_trained_on_in_one_dataset_and_tested_in_another():
    """Subjects that two manifests share (the published variants of some aside) are in one split."""
    seen: dict[str, str] = {}
    for manifest in list_manifests():
        if "_published" in manifest.name:
            continue
        for subject, split in manifest.split.listed().items():
            assert seen.setdefault(subject, split) == split


def test_protocol_names_are_known():
    degradation = pytest.importorskip("medsr.degradation")
    for manifest in list_manifests():
        degradation.get(manifest.degradation)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"title": ""}, "at title"),
        ({"modality": []}, "at modality"),
        ({"surprise": 1}, "surprise"),
        ({"expected": {"images": 0}}, "at expected/images"),
        ({"source": {"access": "secret", "urls": ["https://a.b"], "get": "x"}}, "at source/access"),
        ({"dimensions": 4}, "at dimensions"),
        (
            {"layouts": [{"name": "a", "root": "../x", "images": ["*"], "pattern": "(?P<subject>.)"}]},
            "layouts/0/root",
        ),
        ({"layouts": [{"name": "a", "root": "."}]}, "at layouts/0"),
        ({"split": {"rule": "hash", "train": 1, "val": 0, "test": 0, "description": "x"}}, "at split"),
        ({"split": {"rule": "guess", "description": "x"}}, "at split"),
        ({"subject": {"rule": "table", "description": "x", "entity": "subject"}}, "at subject"),
        ({"files": [{"path": "a.nii", "subject": "a", "modality": "T1w"}]}, "not a valid manifest"),
    ],
)
def test_schema_refuses(tmp_path, changes, message):
    with pytest.raises(InputError, match="not a valid manifest") as caught:
        load_manifest(own_manifest(tmp_path, **changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"split": {"rule": "hash", "seed": "", "train": 0.9, "val": 0.2, "test": 0, "description": "x"}},
            "at most 1",
        ),
        (
            {"split": {"rule": "listed", "train": ["a"], "val": ["a"], "test": [], "description": "x"}},
            "in two: a; remove",
        ),
        (
            {"subject": {"rule": "table", "entity": "subject", "table": {1: "a"}, "description": "x"}},
            "quote it",
        ),
        ({"subject": {"rule": "entity", "entity": "person", "description": "x"}}, "no group 'person'"),
        (
            {"layouts": [{"name": "a", "root": ".", "images": ["*"], "pattern": "(?P<subject>"}]},
            "not a valid manifest",
        ),
        (
            {
                "layouts": [
                    {
                        "name": "a",
                        "root": ".",
                        "images": ["*"],
                        "pattern": "(?P<subject>.)",
                        "segmentation": "{x}",
                    }
                ]
            },
            "no entity named x",
        ),
    ],
)
def test_rules_that_cannot_work_are_refused(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        load_manifest(own_manifest(tmp_path, **changes))


def test_manifest_file_that_is_no_manifest(tmp_path):
    for content, message in [("a: [", "does not parse"), ("- a", "YAML mapping"), ("\x00", "does not parse")]:
        (tmp_path / "own.yaml").write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            load_manifest(tmp_path / "own.yaml")
    with pytest.raises(InputError, match="cannot read"):
        load_manifest(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match="as in the file name"):
        load_manifest(own_manifest(tmp_path).rename(tmp_path / "other.yaml"))
    with pytest.raises(InputError, match="not a valid manifest: KeyError"):
        parse_manifest({}, tmp_path / "own.yaml")


def test_own_manifests_by_environment(tmp_path, monkeypatch):
    own_manifest(tmp_path)
    monkeypatch.setenv("MEDSR_MANIFESTS", str(tmp_path))
    assert load_manifest("own").title == "Own"
    assert {"own", *NAMES} <= {manifest.name for manifest in list_manifests()}
    monkeypatch.setenv("MEDSR_MANIFESTS", str(tmp_path / "absent"))
    with pytest.raises(InputError, match="MEDSR_MANIFESTS names"):
        manifest_paths()


def test_where_the_manifests_are(tmp_path, monkeypatch):
    """In a wheel they lie in the package; a checkout has them beside it; else the installation is broken."""
    module = tmp_path / "medsr" / "data" / "manifests.py"
    monkeypatch.setattr("medsr.datasets.manifest_files.__file__", str(module))
    with pytest.raises(InputError, match="reinstall medsr"):
        manifest_directory()
    for folder in (tmp_path / "data_manifests", tmp_path / "medsr" / "_manifests"):
        folder.mkdir(parents=True)
        (folder / "schema.json").write_text("{}")
        assert manifest_directory() == folder


def test_missing_jsonschema_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    load_manifest("msd_hippocampus")  # ours are validated by these tests, not at run time
    with pytest.raises(InputError, match=r"medsr\[manifest\]"):
        load_manifest(own_manifest(tmp_path))


# Rules


def test_consecutive_subjects_are_pairs_of_sides():
    rule = load_manifest("msd_hippocampus").subjects
    for number in range(1, 400):
        assert rule.subject({"case": f"{number:03d}"}) == f"hs{(number + 1) // 2:03d}"
    with pytest.raises(InputError, match="expected a number from 1 on"):
        rule.subject({"case": "000"})
    assert rule.subject({}) is None


names = st.text("abcdefgh0123456789_-", min_size=1, max_size=8)


@given(st.sets(names, max_size=30), st.sets(names, max_size=30), st.text(max_size=5))
def test_hash_split_of_a_subject_does_not_depend_on_the_others(some, more, seed):
    rule = split_rule({"rule": "hash", "description": "", "seed": seed, "train": 0.6, "val": 0.2, "test": 0.1})
    alone, together = rule.assign(some), rule.assign(some | more)
    assert all(together[name] == split for name, split in alone.items())


def test_hash_split_keeps_the_fractions():
    rule = split_rule({"rule": "hash", "description": "", "seed": "a", "train": 0.5, "val": 0.2, "test": 0.2})
    found = list(rule.assign(f"s{k}" for k in range(4000)).values())
    for split, fraction in [("train", 0.5), ("val", 0.2), ("test", 0.2), (None, 0.1)]:
        assert abs(found.count(split) / 4000 - fraction) < 0.03  # four standard deviations


@given(st.lists(names, unique=True, min_size=1, max_size=20), st.data())
def test_ranked_split_counts_off_exactly(subjects, data):
    train = data.draw(st.integers(0, len(subjects)))
    val = data.draw(st.integers(0, len(subjects) - train))
    counts = {"train": train, "val": val, "test": len(subjects) - train - val}
    rule = split_rule({"rule": "ranked", "description": "", "seed": "s", **counts})
    found = list(rule.assign(subjects).values())
    assert {split: found.count(split) for split in SPLITS} == counts
    assert rule.incomplete(subjects) is None
    assert rule.incomplete([*subjects, "one more"]) is not None
    assert set(rule.assign([*subjects, "one more"]).values()) == {None}


def test_modulus_split_needs_numbers():
    rule = split_rule({"rule": "modulus", "description": "", "modulus": 3, "train": [0], "val": [1], "test": [2]})
    assert rule.assign(["a7", "a8", "a9"]) == {"a7": "val", "a8": "test", "a9": "train"}
    with pytest.raises(InputError, match="ends in a number"):
        rule.assign(["a"])


def test_table_and_template():
    rule = subject_rule({"rule": "table", "description": "", "entity": "scan", "table": {"01": "A", "25": "A"}})
    assert [rule.subject({"scan": scan}) for scan in ("01", "25", "02")] == ["A", "A", None]
    rule = subject_rule({"rule": "entity", "description": "", "entity": "id", "template": "sub-{value}"})
    assert rule.subject({"id": "7"}) == "sub-7"


# Folders and datalists


def test_hippocampus_datalist(hippocampus):
    sections = datalist("msd_hippocampus", hippocampus, relative=True)
    cases = {section: sorted(int(item["label"][-10:-7]) for item in items) for section, items in sections.items()}
    assert cases == {"training": [13, 14, 22, 23], "validation": [15, 16], "test": [17, 18, 19, 20]}
    assert sections["validation"][0] == {
        "label": "images/hippocampus_015.nii.gz",
        "segmentation": "labels/hippocampus_015.nii.gz",
        "subject": "hs008",
        "split": "val",
        "modality": "T1w",
        "resolution": "isotropic",
    }
    absolute = datalist("msd_hippocampus", hippocampus, image_key="image")["test"][0]
    assert Path(absolute["image"]).is_file()
    assert Path(absolute["segmentation"]).is_file()


def test_decathlon_layout_and_one_level_down(tmp_path):
    root = tmp_path / "Task04_Hippocampus"
    for case in (1, 16):
        save(root / "imagesTr" / f"hippocampus_{case:03d}.nii.gz")
        save_label(root / "labelsTr" / f"hippocampus_{case:03d}.nii.gz")
    save(root / "imagesTs" / "hippocampus_002.nii.gz")
    (root / "imagesTr" / "._hippocampus_001.nii.gz").write_bytes(b"finder")
    (root / "dataset.json").write_text("{}")
    for folder, prefix in ((root, ""), (tmp_path, "Task04_Hippocampus/")):
        sections = datalist("msd_hippocampus", folder, relative=True)
        assert [item["label"] for item in sections["training"]] == [f"{prefix}imagesTr/hippocampus_001.nii.gz"]
        assert sections["validation"][0]["segmentation"] == f"{prefix}labelsTr/hippocampus_016.nii.gz"
        report = check_folder(load_manifest("msd_hippocampus"), folder)
        assert [str(finding) for finding in report.findings] == ["expected 260 images, found 2"]


@given(st.sets(st.integers(1, 394), min_size=1, max_size=40))
def test_no_subject_in_two_splits_whatever_files_are_there(tmp_path_factory, cases):
    root = tmp_path_factory.mktemp("msd") / "images"
    root.mkdir()
    for case in cases:
        (root / f"hippocampus_{case:03d}.nii.gz").touch()
    sections = datalist("msd_hippocampus", root.parent)
    assert_patient_wise(sections)
    assert sum(len(items) for items in sections.values()) == len(cases)


@given(st.lists(st.tuples(st.text("abcxyz", min_size=1, max_size=3), st.integers(0, 9)), min_size=1, unique=True))
def test_no_leak_under_a_hash_rule(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("own")
    manifest = load_manifest(own_manifest(root, name="own"))
    for subject, number in files:
        (root / f"{subject}{number}.nii").touch()
    sections = datalist_of(manifest, read_folder(manifest, root))
    splits = {section: {item["subject"] for item in items} for section, items in sections.items()}
    assert sum(len(subjects) for subjects in splits.values()) == len({subject for subject, _ in files})
    assert sum(len(items) for items in sections.values()) == len(files)


def test_a_leak_is_refused(tmp_path):
    item = {"label": "a.nii", "subject": "s1"}
    sections = {"training": [item], "validation": [], "test": [{**item, "label": "b.nii"}]}
    with pytest.raises(InputError, match="s1 is in training and in test"):
        assert_patient_wise(sections)
    with pytest.raises(InputError, match="s1 is in training and in test"):
        write_datalist(load_manifest("msd_hippocampus"), sections, tmp_path / "out.json")
    assert not list(tmp_path.iterdir())


def test_written_datalist_is_read_by_monai(hippocampus, tmp_path):
    from monai.data import load_decathlon_datalist

    manifest = load_manifest("msd_hippocampus")
    output = tmp_path / "lists" / "datalist.json"
    write_datalist(manifest, datalist(manifest, hippocampus, relative=True), output)
    document = json.loads(output.read_text(encoding="utf-8"))
    assert document["licence"] == "CC-BY-SA-4.0"
    assert document["labels"]["1"] == "anterior hippocampus"
    items = load_decathlon_datalist(output, data_list_key="training", base_dir=hippocampus)
    assert {Path(item["label"]) for item in items} == {
        hippocampus / "images" / f"hippocampus_{case:03d}.nii.gz" for case in (13, 14, 22, 23)
    }
    assert {item["subject"] for item in items} == {"hs007", "hs011", "hs012"}
    assert all(Path(item["segmentation"]).is_file() for item in items)


def test_unwritable_datalist(hippocampus, tmp_path):
    manifest = load_manifest("msd_hippocampus")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_datalist(manifest, datalist(manifest, hippocampus), tmp_path / "file" / "datalist.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_key": "subject"}, "another field"),
        ({"modalities": ["T9"]}, "unknown contrast 'T9': expected T1w"),
        ({"resolutions": ["fine"]}, "unknown resolution 'fine'"),
        ({"resolutions": ["native"]}, "is left for the datalist"),
    ],
)
def test_datalist_arguments(hippocampus, arguments, message):
    with pytest.raises(InputError, match=message):
        datalist("msd_hippocampus", hippocampus, **arguments)


def test_bad_folders(tmp_path):
    with pytest.raises(InputError, match=r"unknown dataset 'nothing': expected one of .*msd_hippocampus"):
        datalist("nothing", tmp_path)
    with pytest.raises(InputError, match="found nothing; get it from http"):
        datalist("msd_hippocampus", tmp_path / "absent")
    with pytest.raises(InputError, match="found an empty folder"):
        datalist("msd_hippocampus", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="found a file"):
        datalist("msd_hippocampus", tmp_path / "file")
    with pytest.raises(InputError, match=r"expected imagesTr/hippocampus_\*"):
        datalist("msd_hippocampus", tmp_path)
    with pytest.raises(InputError, match=r"8 files such as brain_t1/niimath_T1w_brain\.nii\.gz"):
        datalist("whole_head_t1w", tmp_path)


def test_two_copies_of_one_image(hippocampus):
    save(hippocampus / "images" / "hippocampus_013.nii")
    with pytest.raises(InputError, match="two copies of one image"):
        datalist("msd_hippocampus", hippocampus)
    report = check_folder(load_manifest("msd_hippocampus"), hippocampus)
    assert "duplicate" in {finding.kind for finding in report.findings}


# Kirby 21 and NAMIC, as miniatures of their layouts


@pytest.mark.parametrize("name", ["KKI2009-{:02d}-MPRAGE.nii", "KKI2009-{0:02d}/KKI2009-{0:02d}-MPRAGE.nii.gz"])
def test_kirby21_uses_each_person_once(tmp_path, name):
    for scan in range(1, 43):
        path = tmp_path / name.format(scan)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "KKI2009-01-FLAIR.nii").touch()
    sections = datalist("kirby21", tmp_path, relative=True)
    assert {key: len(items) for key, items in sections.items()} == {
        "training": 10,
        "validation": 6,
        "test": 5,
    }
    assert [item["subject"] for item in sections["test"]] == [f"KKI{scan:02d}" for scan in range(1, 6)]
    used = {item["subject"] for items in sections.values() for item in items}
    assert len(used) == 21
    # The other scan of a subject that is used (pairs named in the manifest) is in no split.
    assert not used & {"KKI25", "KKI37", "KKI11"}
    published = datalist("kirby21_published", tmp_path, relative=True)
    assert [item["subject"] for item in published["training"]] == [f"KKI{k}" for k in range(33, 43) if k != 37]
    assert published["test"] == sections["test"]


def test_kirby21_missing_subject_is_told(tmp_path):
    save(tmp_path / "KKI2009-01-MPRAGE.nii", shape=(170, 160, 150), spacing=(1.2, 1, 1))
    save(tmp_path / "KKI2009-02-MPRAGE.nii", shape=(20, 20, 20), spacing=(1.2, 1, 3))
    report = check_folder(load_manifest("kirby21"), tmp_path)
    messages = [str(finding) for finding in report.findings]
    assert "no image of subject KKI03, which is in test" in messages
    assert "KKI2009-02-MPRAGE.nii: expected 150 x 150 x 150 to 300 x 300 x 300, got 20 x 20 x 20" in messages
    assert any("expected 0.9 x 0.9 x 0.9 to 1.3 x 1.3 x 1.3 mm, got 1.2 x 1 x 3 mm" in text for text in messages)
    assert not any("KKI2009-01" in text for text in messages)


def namic(root: Path, subjects: range) -> Path:
    import SimpleITK as sitk  # noqa: N813

    image = sitk.Image(4, 4, 4, sitk.sitkFloat32)
    for subject in subjects:
        folder = root / f"case{subject:05d}"
        folder.mkdir(parents=True)
        for modality in ("t1w", "t2w"):
            sitk.WriteImage(image, str(folder / f"{subject:05d}-{modality}.nrrd"))
        (folder / f"{subject:05d}-dwi.nrrd").touch()
    return root


def test_namic_ten_and_ten(tmp_path):
    sections = datalist("namic_multimodality", namic(tmp_path, range(1011, 1031)))
    assert {key: len(items) for key, items in sections.items()} == {
        "training": 20,
        "validation": 0,
        "test": 20,
    }
    train = {item["subject"] for item in sections["training"]}
    assert len(train) == 10
    assert not train & {item["subject"] for item in sections["test"]}
    only = datalist("namic_multimodality", tmp_path, modalities=["T2w"])
    assert {item["modality"] for item in only["test"]} == {"T2w"}
    report = check_folder(load_manifest("namic_multimodality"), tmp_path)
    assert {finding.kind for finding in report.findings} == {"shape"}  # 4 x 4 x 4: the NRRD header was read


def test_namic_incomplete_has_no_split(tmp_path):
    namic(tmp_path, range(1011, 1030))
    with pytest.raises(InputError, match="counts off 20 subjects and is undefined for the 19 found"):
        datalist("namic_multimodality", tmp_path)
    report = check_folder(load_manifest("namic_multimodality"), tmp_path)
    assert "split" in {finding.kind for finding in report.findings if finding.problem}


# The real folder


@pytest.mark.parametrize(
    ("name", "folders"),
    [
        ("msd_hippocampus", ("hippocampus_msd/images",)),
        ("whole_head_t1w", ("brain_t1",)),
        ("brain_t2w_flair_3d", ("stroke_t2", "ms_multimodal/mni")),
    ],
)
def test_real_folder_has_the_agreed_split(shared_data, name, folders):
    with open(shared_data / "splits.csv", newline="", encoding="utf-8") as stream:
        agreed = {
            row["file"]: (row["subject"], row["split"])
            for row in csv.DictReader(stream)
            if row["file"].rsplit("/", 1)[0] in folders
        }
    sections = datalist(name, shared_data, relative=True)
    found = {item["label"]: (item["subject"], item["split"]) for items in sections.values() for item in items}
    assert found == agreed
    report = check_folder(load_manifest(name), shared_data, hashes=True)
    assert report.ok, [str(finding) for finding in report.findings]
    assert "hash" not in {finding.kind for finding in report.findings}


def test_real_glioma_folder(shared_data):
    """Its images are lists of contrasts, by the patients of the agreed split; every file is the one that is meant."""
    with open(shared_data / "splits.csv", newline="", encoding="utf-8") as stream:
        agreed = {
            row["file"]: (row["subject"], row["split"])
            for row in csv.DictReader(stream)
            if row["file"].startswith("glioma/") and "autoseg" not in row["file"]
        }
    sections = datalist("tcga_glioma", shared_data, relative=True)
    items = [item for section in sections.values() for item in section]
    assert {file: (item["subject"], item["split"]) for item in items for file in item["label"]} == agreed
    for item in items:
        assert item["modality"] == "T1ce+T1w+T2w+FLAIR"
        assert [file.split("_")[-1] for file in item["label"]] == [f"{m}.nii.gz" for m in item["modality"].split("+")]
        assert item["segmentation"] == f"glioma/{item['subject']}_autoseg.nii.gz"
    report = check_folder(load_manifest("tcga_glioma"), shared_data / "glioma", hashes=True)
    assert report.ok
    assert report.findings == []


def listed_contrasts(tmp_path: Path, *files: tuple[str, str, str]) -> Path:
    """A manifest that names its files (path, subject, contrast), T1w and FLAIR joined."""
    for path, _, _ in files:
        (tmp_path / path).touch()
    return own_manifest(
        tmp_path,
        modality=["T1w", "FLAIR"],
        channels=["T1w", "FLAIR"],
        layouts=[{"name": "flat", "root": "."}],
        files=[{"path": path, "subject": subject, "modality": modality} for path, subject, modality in files],
        subject={"rule": "listed", "description": "Named in files."},
        split={"rule": "listed", "train": ["a", "b"], "val": [], "test": [], "description": "By subject."},
    )


def test_contrasts_of_listed_files_are_joined_by_subject(tmp_path):
    files = [(f"{subject}{k}.nii", subject, name) for subject in "ab" for k, name in enumerate(("FLAIR", "T1w"))]
    sections = datalist(listed_contrasts(tmp_path, *files), tmp_path, relative=True)
    assert [item["label"] for item in sections["training"]] == [["a1.nii", "a0.nii"], ["b1.nii", "b0.nii"]]


def test_two_files_of_one_contrast_are_refused(tmp_path):
    files = [("a0.nii", "a", "T1w"), ("a1.nii", "a", "T1w"), ("a2.nii", "a", "FLAIR"), ("b0.nii", "b", "T1w")]
    manifest = listed_contrasts(tmp_path, *files)
    with pytest.raises(InputError, match=r"a0.nii and a1.nii are both T1w of one scan"):
        datalist(manifest, tmp_path)
