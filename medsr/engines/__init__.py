"""Training: the engines, handlers and samplers that MONAI lacks."""

from ignite.distributed import get_rank as rank

from medsr.engines.adversarial import AdversarialTrainer
from medsr.engines.averaging import AveragedWeights
from medsr.engines.checkpoint_loader import StrictCheckpointLoader
from medsr.engines.checkpoints import Checkpoints
from medsr.engines.chosen import ChosenForward
from medsr.engines.discarding import EXPLOSION, DiscardedBatches
from medsr.engines.distributed import local_device, parallel, start_processes, stop_processes
from medsr.engines.freezing import frozen_batch_norm
from medsr.engines.measured import Choice, Trial, choose
from medsr.engines.optimization import GradientClipping, milestone_schedule, parameter_groups
from medsr.engines.sampling import WeightedEpochSampler
from medsr.engines.scales import ScaledDataset, ScaleSampler, each_scale, prepare_batch_of_scale, scale_range
from medsr.engines.seeding import SeedPerEpoch
from medsr.engines.standard_handlers import StandardHandlers
from medsr.engines.time_budget import TimeBudget
from medsr.engines.user_errors import report_user_errors, run, user_error

__all__ = [
    "EXPLOSION",
    "AdversarialTrainer",
    "AveragedWeights",
    "Checkpoints",
    "Choice",
    "ChosenForward",
    "DiscardedBatches",
    "GradientClipping",
    "ScaleSampler",
    "ScaledDataset",
    "SeedPerEpoch",
    "StandardHandlers",
    "StrictCheckpointLoader",
    "TimeBudget",
    "Trial",
    "WeightedEpochSampler",
    "choose",
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
