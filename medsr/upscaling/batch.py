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
        done: The number of cases that were enlarged.
        skipped: The images whose results existed already.
        failed: The reasons why other cases failed, by the (first) image of the case.
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

    A case that fails does not stop the others. If the plan has several cases, the report is also written into the
    folder of the results, as `medsr_upscale.json`.

    Args:
        plan: The plan of `plan_outputs`.
        bundle: The name of an installed bundle, or a bundle's folder.
        skip_existing: Whether to keep results that were made by the same request.
        stop_at_errors: Whether to raise the first error instead of reporting it.
        progress: The object that is told about every step.
        settings: The settings of `Upscaler`: `scale` or `spacing`, `device`, and entries of the bundle's
            `inference.json`.

    Returns:
        The report.

    Raises:
        GridError: If neither or both of `scale` and `spacing` are given.
        InputError: If the bundle is unknown, or the weights or the device are unusable.
        Exception: If the program has a defect and there is only one case to do.
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
    """Return the cases without results of the same request."""
    found = find_bundle(bundle)
    request = {"scale": None, "spacing": None, **checked_settings(found, settings)}
    asked = {**found.inference, **request}  # the bundle has the values that the request leaves out
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
    """Enlarge the cases one after another, and return the reasons of failures by the (first) image."""
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
