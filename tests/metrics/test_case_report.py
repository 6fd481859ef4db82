from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import SimpleInferer
from monai.transforms import Lambdad

from medsr.errors import InputError, OutputError
from medsr.metrics import CaseMetrics, CaseReport, FidelityMetric, Protocol, get_protocol, read_csv, read_json
from medsr.metrics.case_names import case_names


def item(seed: int, folder: str = "/data", scale: Any = (2.0, 2.0, 2.0), size: int = 12) -> dict[str, Any]:
    """A case whose "network input" is already its prediction, with a worse image as baseline."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.rand(1, size, size + 1, size + 2, generator=generator)
    noise = torch.randn(label.shape, generator=generator)
    meta = {"filename_or_obj": f"{folder}/sub-{seed}/t1.nii.gz"}
    result = {
        "image": MetaTensor(label + 0.02 * noise, meta=meta),
        "label": MetaTensor(label),
        "interpolated": MetaTensor(label + 0.05 * noise),
        "brain": label > 0.3,
    }
    return result if scale is None else result | {"scale": scale}


def evaluate(items: list[dict[str, Any]], *handlers: Any, batch_size: int = 1, **options: Any) -> SupervisedEvaluator:
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=batch_size, num_workers=0),
        network=torch.nn.Identity(),
        inferer=SimpleInferer(),
        val_handlers=list(handlers),
        **options,
    )
    evaluator.logger.disabled = True
    evaluator.run()
    return evaluator


def test_an_evaluation_leaves_rows_and_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = [item(seed) for seed in range(3)]
    output = tmp_path / "new" / "results"
    evaluate(items, CaseReport(output, "volume", "interpolated", method="recnn3d"))

    rows = read_csv(output / "metrics.csv")
    assert [(r.case, r.method) for r in rows] == [
        (f"sub-{i}/t1", method) for i in range(3) for method in ("recnn3d", "interpolation")
    ]
    assert {r.scale for r in rows} == {(2, 2, 2)}
    measure = CaseMetrics("volume")
    for i, case in enumerate(items):
        assert rows[2 * i].values == measure(case["image"], case["label"])
        assert rows[2 * i + 1].values == measure(case["interpolated"], case["label"])

    summary = read_json(output / "summary.json")
    assert get_protocol(summary["protocol"]) == get_protocol("volume")
    assert summary["baseline"] == "interpolation"
    assert summary["mask"] is None
    assert {"medsr", "python", "torch", "monai", "scipy"} <= set(summary["versions"])
    ours = next(g for g in summary["groups"] if g["method"] == "recnn3d")["metrics"]["psnr"]
    assert ours["mean"] == pytest.approx(np.mean([r.values["psnr"] for r in rows[::2]]))
    assert ours["gain"]["mean"] == pytest.approx(20 * np.log10(2.5))
    assert ours["gain"]["worse"] == 0
    assert ours["wilcoxon"]["note"].startswith("not tested: fewer than 6")

    printed = capsys.readouterr().out
    assert "2x2x2  recnn3d" in printed
    assert "+7.96" in printed
    assert "protocol: volume" in printed
    assert sorted(p.name for p in output.iterdir()) == ["metrics.csv", "summary.json"]


def test_batches_decollated_or_not_say_the_same(tmp_path: Path) -> None:
    items = [item(seed, scale=scale) for seed, scale in enumerate([(2.0, 2.0, 1.5), (3.0, 3.0, 3.0), (2.0, 2.0, 1.5)])]
    tables = []
    for options in ({}, {"batch_size": 3}, {"batch_size": 2, "decollate": False}):
        evaluate(items, CaseReport(tmp_path, baseline="interpolated", quiet=True), **options)
        tables.append(read_csv(tmp_path / "metrics.csv"))
    assert [[(r.case, r.scale, r.method) for r in t] for t in tables[1:]] == [
        [(r.case, r.scale, r.method) for r in tables[0]]
    ] * 2
    for row, *others in zip(*tables, strict=True):
        assert all(o.values == pytest.approx(row.values) for o in others)
    assert [g["scale"] for g in read_json(tmp_path / "summary.json")["groups"]] == [
        "2x2x1.5", "2x2x1.5", "3x3x3", "3x3x3"
    ]  # fmt: skip


@pytest.mark.parametrize("scale", [2, 2.0, [2, 2, 2], (2.0, 2.0, 2.0), torch.tensor([2, 2, 2]), np.full(3, 2.0), "2"])
def test_a_scale_may_come_in_any_form(tmp_path: Path, scale: Any) -> None:
    protocol = Protocol("own", data_range=1.0, ssim="uniform7", border="scale", metrics=("psnr",))
    case = item(0, scale=scale)
    evaluate([case], CaseReport(tmp_path, protocol, quiet=True))
    (row,) = read_csv(tmp_path / "metrics.csv")
    assert row.scale == (2, 2, 2)
    assert row.values == CaseMetrics(protocol)(case["image"], case["label"], scale=2)


def test_real_scales_stay_exact_through_a_data_loader(tmp_path: Path) -> None:
    evaluate([item(0, scale=torch.tensor([2.3, 2.3, 1.1]))], CaseReport(tmp_path, quiet=True))
    assert ",2.3x2.3x1.1," in (tmp_path / "metrics.csv").read_text()


def test_mask_and_keys_of_ones_own(tmp_path: Path) -> None:
    case = item(3, scale=None)
    renamed = Lambdad(keys="pred", func=lambda x: x + 0.01, overwrite="sharper")
    report = CaseReport(tmp_path, mask_key="brain", pred_key="sharper", quiet=True)
    evaluate([case], report, postprocessing=renamed)
    (row,) = read_csv(tmp_path / "metrics.csv")
    assert row.scale is None
    assert row.values == CaseMetrics()(case["image"] + 0.01, case["label"], mask=case["brain"])
    assert read_json(tmp_path / "summary.json")["mask"] == "brain"


def test_a_second_evaluation_starts_anew(tmp_path: Path) -> None:
    report = CaseReport(tmp_path, quiet=True)
    evaluate([item(0), item(1)], report)
    evaluate([item(2)], report)
    assert [r.case for r in read_csv(tmp_path / "metrics.csv")] == ["t1"]


def test_a_case_evaluated_twice_keeps_both_rows(tmp_path: Path) -> None:
    again = item(0)
    again["image"] = again["image"] + 0.1
    evaluate([item(0), again], CaseReport(tmp_path, baseline="interpolated", quiet=True))
    rows = read_csv(tmp_path / "metrics.csv")
    assert [r.case for r in rows] == ["t1", "t1", "t1#2", "t1#2"]


def test_a_bundle_config_can_name_it_all(tmp_path: Path) -> None:
    parser = ConfigParser(
        {
            "key_metric": {
                "psnr": {
                    "_target_": "IgniteMetricHandler",
                    "metric_fn": {"_target_": "medsr.metrics.FidelityMetric", "metric": "psnr"},
                    "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
                }
            },
            "report": {
                "_target_": "medsr.metrics.CaseReport",
                "output_dir": str(tmp_path),
                "protocol": {"name": "own", "data_range": "target", "metrics": ["psnr"]},
                "baseline": "interpolated",
                "quiet": True,
            },
            "imports": ["$import monai"],
        }
    )
    parser.parse()
    metric = parser.get_parsed_content("key_metric")
    assert isinstance(metric["psnr"].metric_fn, FidelityMetric)
    evaluator = evaluate([item(0), item(1)], parser.get_parsed_content("report"), key_val_metric=metric)
    rows = [r for r in read_csv(tmp_path / "metrics.csv") if r.method == "sr"]
    assert evaluator.state.metrics["psnr"] == pytest.approx(np.mean([r.values["psnr"] for r in rows]), rel=1e-6)
    assert evaluator.state.metric_details["psnr"].shape == (2, 1)


def test_errors_say_which_case(tmp_path: Path) -> None:
    broken = item(1)
    broken["image"][0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match=r"case /data/sub-1/t1.nii.gz: the prediction must hold finite numbers"):
        evaluate([item(0), broken], CaseReport(tmp_path, quiet=True))
    with pytest.raises(InputError, match=r"case /data/sub-0/t1.nii.gz: no 'bicubic' among the keys image, label"):
        evaluate([item(0)], CaseReport(tmp_path, baseline="bicubic", quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two names in the table, but both are 'interpolation'"):
        CaseReport(tmp_path, baseline="interpolated", method="interpolation")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        evaluate([item(0)], CaseReport(tmp_path / "file" / "results", quiet=True))


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["/a/b/x.nii.gz", "/a/b/y.NII"], ["x", "y"]),
        (["/a/s1/t1.nii.gz", "/a/s2/t1.nii.gz", "/a/s2/t2.mha"], ["s1/t1", "s2/t1", "t2"]),
        (["/a/s1/x/t1.nii", "/b/s1/x/t1.nii"], ["a/s1/x/t1", "b/s1/x/t1"]),
        (["/a/t1.nii", "/a/t1.nrrd"], ["/a/t1.nii", "/a/t1.nrrd"]),
        (["/a/t1.nii", "/a/t1.nii"], ["t1", "t1"]),
        (["/dicom/1.2.840.113619.2", "1.2.840.113619.3"], ["1.2.840.113619.2", "1.2.840.113619.3"]),
        (["case-0001"], ["case-0001"]),
        (["/a/two\nlines\udcff.nii"], ["two_lines?"]),
        ([], []),
    ],
)
def test_case_names(files: list[str], names: list[str]) -> None:
    assert case_names(files) == names


PATHS = st.lists(st.sampled_from(["a", "b", "t1", "t2"]), min_size=1, max_size=4).map(lambda p: f"/{'/'.join(p)}.nii")


@given(st.lists(PATHS, max_size=8))
def test_different_files_have_different_names(files: list[str]) -> None:
    names = case_names(files)
    assert len(set(zip(files, names, strict=True))) == len(set(names)) == len(set(files))


def _evaluate_share(rank: int, folder: str) -> None:
    """One of two processes; the second is handed the first one's case again, as samplers do."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    shares = [[item(0), item(1)], [item(2), item(0)]]
    evaluate(shares[rank], CaseReport(Path(folder) / "results", baseline="interpolated", quiet=True))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_write_one_report(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_evaluate_share, args=(str(tmp_path),), nprocs=2)
    rows = read_csv(tmp_path / "results" / "metrics.csv")
    assert [(r.case, r.method) for r in rows] == [(f"sub-{i}/t1", m) for i in range(3) for m in ("sr", "interpolation")]


def test_contrasts_have_columns_and_tests_of_their_own(tmp_path: Path) -> None:
    cases = [item(seed) for seed in range(6)]
    for case in cases:
        for key in ("image", "label", "interpolated"):
            case[key] = MetaTensor(torch.cat([case[key], 3 * case[key]]), meta=case[key].meta)
        case["modality"] = "T1w+FLAIR"
    evaluate(cases, CaseReport(tmp_path, "volume", "interpolated", quiet=True))
    rows = read_csv(tmp_path / "metrics.csv")
    measure = CaseMetrics("volume")
    for k, name in enumerate(("T1w", "FLAIR")):
        alone = measure(cases[0]["image"][k : k + 1], cases[0]["label"][k : k + 1])
        assert rows[0].values[f"psnr_{name}"] == alone["psnr"]
        assert rows[0].values[f"mae_{name}"] == alone["mae"]
    metrics = next(g for g in read_json(tmp_path / "summary.json")["groups"] if g["method"] == "sr")["metrics"]
    assert metrics["psnr_FLAIR"]["gain"]["mean"] == pytest.approx(20 * np.log10(2.5))
    assert metrics["mae_FLAIR"]["gain"]["mean"] > 0
    assert metrics["psnr_T1w"]["wilcoxon"]["p_value"] < 0.05
    assert "gain" not in metrics["data_range_T1w"]
