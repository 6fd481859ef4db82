"""Super-resolution networks by their papers' names."""

from medsr.networks.checkpoints import load_checkpoint
from medsr.networks.discriminators import MetaSRGANDiscriminator, MSGANDiscriminator, SRGANDiscriminator
from medsr.networks.edsr import EDSR
from medsr.networks.han import HAN
from medsr.networks.lesion_detector import LesionDetector, lesion_box
from medsr.networks.mdsr import MDSR
from medsr.networks.msgan import MSGANGenerator, MSSRResNet
from medsr.networks.preset import Preset
from medsr.networks.rcan import RCAN
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
    "HAN",
    "MDSR",
    "NETWORKS",
    "PRESETS",
    "RCAN",
    "SRCNN3D",
    "Family",
    "LesionDetector",
    "MSGANDiscriminator",
    "MSGANGenerator",
    "MSRResNet",
    "MSSRResNet",
    "MetaSRGANDiscriminator",
    "NetworkSpec",
    "Preset",
    "ReCNN",
    "ResNetEncoder",
    "ResNetUNet",
    "SRGANDiscriminator",
    "SRResNet",
    "SegmentationUNet",
    "create",
    "lesion_box",
    "load_checkpoint",
]
