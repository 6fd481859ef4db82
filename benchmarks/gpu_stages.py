"""The trainings of the plan for a GPU, in their order of worth: the bundles' own train.json with a few settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

VAL_LIMIT = 2  # validation images of each dataset: enough for a curve, and small in the archive
_MIXTURE = "{'name': 'mixture', 'choices': ['acquisition-3d', 'acquisition-2d-multislice'], 'weights': [2, 1]}"


@dataclass(frozen=True)
class Stage:
    """A training of the plan.

    Attributes:
        name: The name of the weights that it makes.
        bundle: The bundle whose `configs/train.json` runs.
        share: The part of the time that it gets.
        steps: The largest number of steps.
        steps_per_epoch: The steps between two checkpoints.
        settings: The settings of the config that differ from its own.
        falls: The parts of all steps after which the learning rate is halved; empty if the config has a schedule.
        initial: The stage whose weights it starts from; if there are none, the weights of the bundle in the archive.
    """

    name: str
    bundle: str
    share: float
    steps: int
    steps_per_epoch: int
    settings: Mapping[str, str] = field(default_factory=dict)
    falls: tuple[float, ...] = ()
    initial: str | None = None


STAGES = (
    # Zhu 2022, chapter 5: 100,000 steps at 2e-4, then 20,000 at 1e-4, halved after 10,000, 15,000 and 17,500 of them,
    # here all with L1. Batch, patch, optimiser and loss are train.json's. Less time shortens it in proportion.
    Stage(
        *("rdst-e-zhu2022", "rdst", 0.45, 120_000, 500),
        settings={"degradation": "bicubic-no-antialias", "learning_rate": "2e-4"},
        falls=(100 / 120, 110 / 120, 115 / 120, 117.5 / 120),
    ),
    Stage(
        *("rdst-e-default", "rdst", 0.3, 60_000, 500),
        settings={"degradation": _MIXTURE, "learning_rate": "2e-4", "ema": "0.999"},
        falls=(0.5, 0.75, 0.9),
        initial="rdst-e-zhu2022",
    ),
    Stage(*("recnn-20l", "recnn3d", 0.25, 20_000, 100), settings={"network_def#name": "recnn-20l"}),
)
BUNDLES = tuple(dict.fromkeys(stage.bundle for stage in STAGES))
STARTING = tuple(dict.fromkeys(stage.bundle for stage in STAGES if stage.initial))  # bundles whose weights are packed


def milestones(stage: Stage, steps: int) -> str:
    """Return the steps after which the learning rate of a run of so many steps is halved, as a setting."""
    return "[" + ",".join(str(max(1, round(part * steps))) for part in stage.falls) + "]"
