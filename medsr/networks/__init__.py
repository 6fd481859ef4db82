"""Super-resolution networks by their papers' names."""

from medsr.networks.checkpoints import load_checkpoint
from medsr.networks.preset import Preset
from medsr.networks.recnn import ReCNN
from medsr.networks.registry import NETWORKS, PRESETS, create
from medsr.networks.spec import Family, NetworkSpec
from medsr.networks.srcnn3d import SRCNN3D

__all__ = ["NETWORKS", "PRESETS", "SRCNN3D", "Family", "NetworkSpec", "Preset", "ReCNN", "create", "load_checkpoint"]
