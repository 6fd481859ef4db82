"""Super-resolution networks by their papers' names."""

from medsr.networks.checkpoints import load_checkpoint
from medsr.networks.edsr import EDSR
from medsr.networks.mdsr import MDSR
from medsr.networks.msgan import MSGANGenerator, MSSRResNet
from medsr.networks.preset import Preset
from medsr.networks.recnn import ReCNN
from medsr.networks.registry import NETWORKS, PRESETS, create
from medsr.networks.resnet import ResNetEncoder
from medsr.networks.resnet_unet import ResNetUNet
from medsr.networks.segmentation_unet import SegmentationUNet
from medsr.networks.spec import Family, NetworkSpec
from medsr.networks.srcnn3d import SRCNN3D
from medsr.networks.srresnet import MSRResNet, SRResNet

__all__ = [
    "EDSR",
    "MDSR",
    "NETWORKS",
    "PRESETS",
    "SRCNN3D",
    "Family",
    "MSGANGenerator",
    "MSRResNet",
    "MSSRResNet",
    "NetworkSpec",
    "Preset",
    "ReCNN",
    "ResNetEncoder",
    "ResNetUNet",
    "SRResNet",
    "SegmentationUNet",
    "create",
    "load_checkpoint",
]
