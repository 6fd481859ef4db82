"""Training: what MONAI's engines lack."""

from medsr.engines.adversarial import AdversarialTrainer
from medsr.engines.checkpoints import Checkpoints
from medsr.engines.discarding import EXPLOSION, DiscardedBatches
from medsr.engines.distributed import local_device, parallel, rank, start_processes, stop_processes
from medsr.engines.freezing import frozen_batch_norm
from medsr.engines.handlers import GradientClipping, SeedPerEpoch, TimeBudget
from medsr.engines.loading import StrictCheckpointLoader
from medsr.engines.optimization import parameter_groups
from medsr.engines.sampling import WeightedEpochSampler
from medsr.engines.scales import ScaledDataset, ScaleSampler, each_scale, prepare_batch_of_scale, scale_range
from medsr.engines.training_handlers import StandardHandlers, milestone_schedule
from medsr.engines.user_errors import report_user_errors, run, user_error

__all__ = [
    "EXPLOSION",
    "AdversarialTrainer",
    "Checkpoints",
    "DiscardedBatches",
    "GradientClipping",
    "ScaleSampler",
    "ScaledDataset",
    "SeedPerEpoch",
    "StandardHandlers",
    "StrictCheckpointLoader",
    "TimeBudget",
    "WeightedEpochSampler",
    "each_scale",
    "frozen_batch_norm",
    "local_device",
    "milestone_schedule",
    "parallel",
    "parameter_groups",
    "prepare_batch_of_scale",
    "rank",
    "report_user_errors",
    "run",
    "scale_range",
    "start_processes",
    "stop_processes",
    "user_error",
]
