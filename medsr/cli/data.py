"""`medsr data`: list the datasets, check a folder against a manifest, and write datalists."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from tabulate import tabulate

from medsr.datasets.check import Finding, Report, check_folder
from medsr.datasets.datalists import RESOLUTIONS, datalist_of, write_datalist
from medsr.datasets.dataset_folder import DatasetImage, read_folder
from medsr.datasets.manifest import Manifest
from medsr.datasets.manifest_files import list_manifests, load_manifest

_SHOWN = 10  # findings of one kind that are printed; --json prints all of them


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `medsr data list`, `medsr data check` and `medsr data datalist` to the command line."""
    parser = subparsers.add_parser(
        "data",
        help="list datasets, check a folder, write a datalist",
        description="A manifest describes a dataset. Manifests of medsr are found by name; the environment variable "
        "MEDSR_MANIFESTS names a folder of your own manifests.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    action = actions.add_parser("list", help="list the datasets that have a manifest")
    action.add_argument("--json", action="store_true", help="print JSON")
    action.set_defaults(run=run_list)

    action = actions.add_parser(
        "check",
        help="verify a folder against its manifest",
        description="The exit status is 0 if the folder is as the manifest describes, and 1 if it is not.",
    )
    _add_dataset(action)
    action.add_argument(
        "--full", action="store_true", help="also read every voxel (truncated files, NaN, label values)"
    )
    action.add_argument("--hash", action="store_true", help="compare SHA-256 hashes where they are known")
    action.add_argument("--json", action="store_true", help="print JSON")
    action.set_defaults(run=run_check)

    action = actions.add_parser(
        "datalist",
        help="write a MONAI datalist, split by subject",
        description="Write a JSON file as in the Medical Segmentation Decathlon, with the sections training, "
        "validation and test. The HR image is under the image key, its label map (if any) under 'segmentation'.",
    )
    _add_dataset(action)
    action.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="JSON file to write")
    action.add_argument("--image-key", default="label", metavar="KEY", help="key of the HR image (default: label)")
    action.add_argument("--absolute", action="store_true", help="write absolute paths instead of paths relative to DIR")
    action.add_argument("--modality", nargs="+", metavar="M", help="keep only these contrasts, such as T1w")
    action.add_argument("--resolution", nargs="+", choices=RESOLUTIONS, help="keep only these kinds of target")
    action.set_defaults(run=run_datalist)


def _add_dataset(action: argparse.ArgumentParser) -> None:
    """Add the arguments that name a dataset and its folder."""
    action.add_argument("name", metavar="NAME", help="dataset name (medsr data list) or path of a .yaml manifest")
    action.add_argument("folder", type=Path, metavar="DIR", help="folder that holds the dataset")


def run_list(args: argparse.Namespace) -> int:
    """Print the datasets that have a manifest."""
    manifests = list_manifests()
    if args.json:
        print(json.dumps([_brief(manifest) for manifest in manifests], indent=2, ensure_ascii=False))
        return 0
    header = ("NAME", "MODALITY", "IMAGES", "LICENCE", "ACCESS", "TITLE")
    rows = [
        (m.name, ",".join(m.modality), str(m.expected.images or "?"), m.licence["name"], m.access, m.title)
        for m in manifests
    ]
    print(tabulate([header, *rows], tablefmt="plain", disable_numparse=True))
    return 0


def _brief(manifest: Manifest) -> dict[str, object]:
    """Return the main facts of a manifest for JSON."""
    return {
        "name": manifest.name,
        "title": manifest.title,
        "description": manifest.description,
        "modality": list(manifest.modality),
        "dimensions": manifest.dimensions,
        "images": manifest.expected.images,
        "subjects": manifest.expected.subjects,
        "licence": dict(manifest.licence),
        "source": dict(manifest.source),
        "citation": list(manifest.citation),
        "manifest": str(manifest.path),
    }


def run_check(args: argparse.Namespace) -> int:
    """Check a folder; return 0 if it is as the manifest describes, else 1."""
    manifest = load_manifest(args.name)
    report = check_folder(manifest, args.folder, full=args.full, hashes=args.hash, progress=_progress)
    if args.json:
        print(json.dumps(report.to_dict(), indent=2, ensure_ascii=False))
    else:
        print("\n".join(_lines(report)))
    return 0 if report.ok else 1


def _progress(images: Iterable[DatasetImage]) -> Iterable[DatasetImage]:
    """Return the images with a progress bar on a terminal."""
    from tqdm import tqdm

    return tqdm(images, unit="image", leave=False, disable=not sys.stderr.isatty())


def _lines(report: Report) -> list[str]:
    """Return the lines that print a report."""
    lines = [f"{report.name} in {report.root} ({report.layout})"]
    for split, images in report.images.items():
        where = "in no split" if split == "none" else split
        lines.append(f"  {where}: {_count(images, 'image')} of {_count(report.subjects[split], 'subject')}")
    lines.append(f"  checked: names, {', '.join(report.checked)}")
    problems = [finding for finding in report.findings if finding.problem]
    lines += _grouped("", problems)
    lines += _grouped("note: ", [finding for finding in report.findings if not finding.problem])
    lines.append("OK" if report.ok else f"NOT OK: {_count(len(problems), 'problem')}")
    return lines


def _count(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _grouped(prefix: str, findings: list[Finding]) -> list[str]:
    """Return the lines of findings, grouped by kind and shortened."""
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding)
    lines = []
    for kind, group in kinds.items():
        lines += [f"  {prefix}{kind}: {finding}" for finding in group[:_SHOWN]]
        if len(group) > _SHOWN:
            lines.append(f"  {prefix}{kind}: and {len(group) - _SHOWN} more (--json lists all)")
    return lines


def run_datalist(args: argparse.Namespace) -> int:
    """Write a datalist, and print what it holds."""
    manifest = load_manifest(args.name)
    folder = read_folder(manifest, args.folder)
    sections = datalist_of(
        manifest,
        folder,
        image_key=args.image_key,
        relative=not args.absolute,
        modalities=args.modality,
        resolutions=args.resolution,
    )
    write_datalist(manifest, sections, args.output)
    for section, items in sections.items():
        subjects = {item["subject"] for item in items}
        print(f"{section}: {_count(len(items), 'image')} of {_count(len(subjects), 'subject')}")
    if folder.missing:
        print(
            f"medsr: warning: missing {_count(len(folder.missing), 'file')} of the dataset, first "
            f"{folder.missing[0]}; see medsr data check",
            file=sys.stderr,
        )
    print(f"wrote {args.output}")
    return 0
