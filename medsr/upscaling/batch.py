"""Enlarge many images: keep results that exist, go on after a failure, and write a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from typing import Any

from medsr.bundle import DEFAULT_BUNDLE, find_bundle
from medsr.bundle.loaded import checked_settings
from medsr.engines import user_error
from medsr.files.atomic import write_json_atomic
from medsr.outputs.earlier_results import Making, is_made
from medsr.upscaling.planning import Case, Plan
from medsr.upscaling.progress import Progress
from medsr.upscaling.upscaler import Upscaler

REPORT = "medsr_upscale.json"


@dataclass
class Report:
    """The report on the cases of a plan.

    Attributes:
        done: How many were enlarged now.
        skipped: The images whose results were there.
        failed: What was wrong with the others, by the (first) image of the case.
    """

    done: int = 0
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def run_plan(
    plan: Plan,
    bundle: str | PathLike[str] = DEFAULT_BUNDLE,
    *,
    skip_existing: bool = False,
    stop_at_errors: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Report:
    """Enlarge the cases of a plan one after another, the contrasts of a case together.

    The fault of one case does not stop the others. Where the plan has several cases, the report is written into the
    folder of the results too, as `medsr_upscale.json`.

    Args:
        plan: What is to be enlarged, from `plan_outputs`.
        bundle: The name of an installed bundle, or a bundle's folder.
        skip_existing: Leave results alone that were made as asked now.
        stop_at_errors: Raise the first error as it came instead of reporting it.
        progress: Hears of every step.
        settings: The settings of `Upscaler`: `scale` or `spacing`, `device`, and entries of the bundle's
            `inference.json`.

    Returns:
        The report.

    Raises:
        GridError: Neither or both of `scale` and `spacing`.
        InputError: An unknown bundle, unusable weights or device.
        Exception: A defect of the program, where there is but one case to do.
    """
    progress = progress or Progress()
    settings = {**settings, **plan.settings}
    todo: Sequence[Case] = plan.cases
    if skip_existing:
        todo = _todo(plan.cases, bundle, settings)
        if others := sum(job.paths.image.exists() for case in todo for job in case):
            progress.made_otherwise(others)
    report = Report(skipped=[str(job.image.path) for case in plan.cases if case not in todo for job in case])
    if todo:
        report.failed = _enlarge(Upscaler(bundle, **settings), todo, stop_at_errors, progress)
        report.done = len(todo) - len(report.failed)
    if len(plan.cases) > 1:
        write_json_atomic(plan.directory / REPORT, asdict(report))
    return report


def _todo(cases: Iterable[Case], bundle: str | PathLike[str], settings: Mapping[str, Any]) -> list[Case]:
    """Return the cases without results that were made as asked now."""
    found = find_bundle(bundle)
    request = {"scale": None, "spacing": None, **checked_settings(found, settings)}
    asked = {**found.inference, **request}  # what is not asked for is as the bundle has it
    making = Making.asked(
        found.metadata,
        request.get("weights") or found.weights,
        asked,
        contrasts=len(request.get("contrasts") or ()),
    )
    consistency = bool(asked.get("consistency"))
    todo = []
    for case in cases:
        channels = [None] if len(case) == 1 else range(len(case))
        numbered = zip(channels, case, strict=True)
        if not all(is_made(job.paths, making, consistency=consistency, channel=k) for k, job in numbered):
            todo.append(case)
    return todo


def _enlarge(upscaler: Upscaler, cases: Sequence[Case], stop_at_errors: bool, progress: Progress) -> dict[str, str]:
    """Enlarge case after case; return what failed and why."""
    failures: dict[str, str] = {}
    for case in progress.track(upscaler, cases):
        image = case[0].image.path
        progress.case(image)
        try:
            if len(case) == 1:
                saved = [upscaler.save(image, case[0].stem)]
            else:
                saved = upscaler.save_contrasts([job.image.path for job in case], [job.stem for job in case])
        except Exception as error:
            mistake = user_error(error)
            if stop_at_errors or (mistake is None and len(cases) == 1):
                raise  # a defect, not a user's mistake
            what = str(mistake or f"{type(error).__name__}: {' '.join(str(error).split())}")
            failures[str(image)] = what
            progress.failed(image, what)
        else:
            progress.saved(saved)
    return failures
