"""The benchmark measures what it says; the figures themselves are nobody's business here."""

from __future__ import annotations

import json
import platform
import time

import torch

from benchmarks import efficiency, inference, layout, machine, measure, memory, report
from medsr.networks import PRESETS, create


def test_runs_take_turns():
    order: list[str] = []

    def run(name, seconds):
        order.append(name)
        time.sleep(seconds)

    times = measure.in_turns({"a": lambda: run("a", 0), "b": lambda: run("b", 0.01)}, 3, torch.device("cpu"))
    assert order == ["a", "b"] * 4  # the first round is not counted
    assert times["b"]["least"] >= 0.01
    assert times["b"]["least"] <= times["b"]["median"] <= times["b"]["most"]


def test_counts_of_work():
    network = create("recnn-10l")
    assert measure.multiply_adds(network) == PRESETS["recnn-10l"].multiply_adds_per_voxel
    with measure.VoxelCount(network) as count:
        network(torch.zeros(2, 1, 3, 4, 5))
    network(torch.zeros(1, 1, 3, 4, 5))
    assert count.voxels == 120


def test_record_names_the_machine_but_not_the_host():
    device = torch.device("cpu")
    record = json.dumps(machine.describe(device))
    assert platform.node() not in record + machine.slug(device) or len(platform.node()) < 4
    assert str(torch.get_num_threads()) in machine.slug(device)


def test_table():
    text = report.table(
        [{"what": "a", "seconds": 0.12345, "ok": True}, {"what": "bbbb", "seconds": 12345.6, "ok": False}]
    )
    assert text.splitlines() == ["what  seconds   ok", "----  -------  ---", "a       0.123  yes", "bbbb   12,346   NO"]


def test_quick_run_writes_json_and_text(tmp_path, capsys):
    path = tmp_path / "results" / "machine.json"
    arguments = ["--quick", "--only", "tiling", "arithmetic", "--size", "16", "--features", "2", "--output", str(path)]
    record = inference.main(arguments)
    assert json.loads(path.read_text()) == json.loads(json.dumps(record))
    assert path.with_suffix(".txt").read_text() in capsys.readouterr().out
    bare, whole, tiled, windows = record["tables"]["tiling"]
    assert bare["voxels / bare"] == whole["voxels / bare"] == 1 <= tiled["voxels / bare"]
    assert max(whole["max error"], tiled["max error"]) < 1e-5
    assert "MONAI" in windows["how"]
    bars = [row["bar"] for row in record["tables"]["bars"]]
    assert len(bars) == 3
    assert any("bfloat16" in row["precision"] for row in record["tables"]["arithmetic"]) == machine.has_bfloat16(
        torch.device("cpu")
    )


def test_what_the_processes_measure():
    """In this process: one of its own takes seconds to start."""
    row = memory.measure(24, 64, features=4, depth=2, channels_last=True)
    assert row["output MiB"] == 24**3 * 4 / 2**20
    assert row["tiles"] == 1
    assert -1 < row["peak MiB"] < 64
    assert memory.peak_resident_mb() > 50
    assert set(layout.measure(2, 16, 1)) == set(layout.LAYOUTS)


def test_efficiency_of_small_networks(tmp_path, capsys):
    names = ["edsr-lite-zhu2022", "rdst-e"]
    assert efficiency.main([*names, "--small", "--repeats", "1", "--json", str(tmp_path / "e.json")]) == 0
    rows = json.loads((tmp_path / "e.json").read_text())["networks"]
    assert [row["network"] for row in rows] == names
    assert all(row["frames_per_second"] > 0 and row["multiply_adds"] > 0 for row in rows)
    assert "40x32 -> 160x128" in capsys.readouterr().out
