"""Training: what MONAI's engines lack."""

from medsr.engines.checkpoints import Checkpoints
from medsr.engines.handlers import GradientClipping, SeedPerEpoch, TimeBudget
from medsr.engines.optimization import parameter_groups
from medsr.engines.running import run, user_error
from medsr.engines.sampling import WeightedEpochSampler

__all__ = [
    "Checkpoints",
    "GradientClipping",
    "SeedPerEpoch",
    "TimeBudget",
    "WeightedEpochSampler",
    "parameter_groups",
    "run",
    "user_error",
]
