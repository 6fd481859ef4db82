"""Speed and memory of inference on this machine: `make benchmark`, or `python -m benchmarks.inference --help`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import layout, machine, memory, report, speed
from medsr.runtime import choose_device, keep_freed_memory

RESULTS = Path(__file__).parent / "results"
PARTS = ("tiling", "arithmetic", "memory", "layout")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run")
    parser.add_argument("--features", type=int, nargs="+", help="widths of the 10-layer ReCNN (32 and 64)")
    parser.add_argument("--size", type=int, help="voxels along each axis of the result (96)")
    parser.add_argument("--memory-sizes", type=int, nargs="+", help="results whose memory is measured (64 to 192)")
    parser.add_argument("--memory-mb", type=int, help="limit for those (256)")
    parser.add_argument("--repeats", type=int, help="measured runs of everything (3)")
    parser.add_argument("--threads", type=int, help="threads of the CPU (torch's default)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or auto")
    parser.add_argument("--contiguous", action="store_true", help="tile without the channels-last layout")
    parser.add_argument("--quick", action="store_true", help="sizes of a smoke test; the figures mean nothing")
    parser.add_argument("--output", type=Path, help="JSON to write (benchmarks/results/<processor>.json)")
    options = parser.parse_args(arguments)
    usual: dict[str, Any] = {
        "features": [32, 64],
        "size": 96,
        "memory_sizes": [64, 96, 128, 160, 192],
        "memory_mb": 256,
        "repeats": 3,
    }
    quick: dict[str, Any] = {"features": [8], "size": 32, "memory_sizes": [32, 64], "memory_mb": 32, "repeats": 1}
    for name, value in (quick if options.quick else usual).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def verdicts(tables: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the targets, and whether they were reached."""
    rows: list[dict[str, Any]] = []

    def bar(what: str, target: str, measured: float, reached: bool) -> None:
        rows.append({"bar": what, "target": target, "measured": measured, "reached": reached})

    for row in tables.get("tiling", []):
        if row["how"] == "inferer, image fits":
            ratio = row["time / bare"]
            bar(f"{row['network']}: time of the inferer / bare, image fits", "<= 1.15", ratio, ratio <= 1.15)
        if row["how"] == "inferer, tiled":
            ratio, predicted = row["time / bare"], row["voxels / bare"]
            target = f"<= {predicted:.3g} (halo geometry)"
            bar(f"{row['network']}: time of the inferer / bare, tiled", target, ratio, ratio <= predicted)
    arithmetic = tables.get("arithmetic", [])
    for precision in dict.fromkeys(row["precision"] for row in arithmetic):
        networks = [row for row in arithmetic if row["precision"] == precision and "ReCNN" in row["what"]]
        for name in dict.fromkeys(row["what"].rsplit(",", 1)[0] for row in networks):
            best = max(row["of one convolution"] for row in networks if row["what"].startswith(name))
            bar(f"{name}, {precision}: GFLOP/s / one 64-channel convolution", ">= 0.8", best, best >= 0.8)
    if tables.get("memory"):
        rows_as_it_comes = [row for row in tables["memory"] if row["allocator"] == "as it comes"]
        beside = [row["peak - output MiB"] for row in rows_as_it_comes]
        limit = tables["memory"][0]["memory_mb"]
        bar(
            "largest memory beside the output (MiB), allocator as it comes",
            f"<= {limit} (memory_mb)",
            max(beside),
            max(beside) <= limit,
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run, print and write the benchmark, and return the record."""
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    keep_freed_memory()  # as every bundle does
    torch.manual_seed(0)
    device, size, repeats = choose_device(options.device), options.size, options.repeats
    tables: dict[str, list[dict[str, Any]]] = {}
    notes = ["all that is compared ran in turns in the same process; medians", "enlarged by 2 along every axis"]
    if "tiling" in options.only:
        tables["tiling"] = [
            row for f in options.features for row in speed.tiling(f, size, repeats, device, not options.contiguous)
        ]
    if "arithmetic" in options.only:
        precisions = ["float32"]
        if machine.has_bfloat16(device):
            precisions.append("bfloat16")
        else:
            notes.append("bfloat16 left out: this processor has no instructions for it, torch would emulate it")
        tables["arithmetic"] = [
            row
            for precision in precisions
            for f in options.features
            for row in speed.arithmetic(f, size, repeats, device, precision)
        ]
    if "memory" in options.only:
        notes.append("memory: a process each on the CPU, 3L-ReCNN with 32 features; peak above that before the call")
        layouts = [] if options.contiguous else ["--channels-last"]
        tables["memory"] = [
            row for n in options.memory_sizes for row in memory.measure_apart(n, options.memory_mb, *layouts)
        ]
    if "layout" in options.only:
        notes.append("layout: on the CPU; processes with and without the allocator setting took turns")
        tables["layout"] = [row for f in options.features for row in layout.compare(f, size // 2, repeats)]
    settings = {
        key: getattr(options, key) for key in ("features", "size", "memory_sizes", "memory_mb", "repeats", "contiguous")
    }
    tables["bars"] = verdicts(tables)
    record = {"machine": machine.describe(device), "settings": settings, "tables": tables, "notes": notes}
    print(report.render(record))
    path = options.output or (None if options.quick else RESULTS / f"{machine.slug(device)}.json")
    if path is not None:
        report.write(record, path)
        print(f"\nwritten to {path}")
    return record


if __name__ == "__main__":
    main()
