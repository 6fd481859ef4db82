"""The Python interface: enlarge one image to an image of the same kind, or many files to many files.

Modules that load torch are imported on first use.
"""

from typing import TYPE_CHECKING

import lazy_loader

from medsr.upscaling.progress import Progress

if TYPE_CHECKING:
    from medsr.upscaling.batch import Report, run_plan
    from medsr.upscaling.planning import Case, Job, Plan, plan_outputs
    from medsr.upscaling.upscaler import Upscaler, upscale

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "batch": ["Report", "run_plan"],
        "planning": ["Case", "Job", "Plan", "plan_outputs"],
        "upscaler": ["Upscaler", "upscale"],
    },
)

__all__ = ["Case", "Job", "Plan", "Progress", "Report", "Upscaler", "plan_outputs", "run_plan", "upscale"]
