"""Super-resolution networks by their papers' names."""

from medsr.networks.blocks.meta_upscale import MetaUpscale
from medsr.networks.blocks.output_query import Query
from medsr.networks.blocks.resnet import ResNetEncoder
from medsr.networks.checkpoints import load_checkpoint
from medsr.networks.convnet import ConvNetSR
from medsr.networks.discriminators import MetaSRGANDiscriminator, MSGANDiscriminator, SRGANDiscriminator
from medsr.networks.edsr import EDSR
from medsr.networks.han import HAN
from medsr.networks.lesion_detector import LesionDetector, lesion_box
from medsr.networks.mdsr import MDSR
from medsr.networks.meta_srgan import MetaSRGANGenerator
from medsr.networks.metardn import MetaRDN
from medsr.networks.miassr import MIASSR
from medsr.networks.msgan import MSGANGenerator, MSSRResNet
from medsr.networks.preset import Preset
from medsr.networks.rcan import RCAN
from medsr.networks.rdn import RDN
from medsr.networks.rdst import RDST
from medsr.networks.recnn import ReCNN
from medsr.networks.registry import NETWORKS, PRESETS, create
from medsr.networks.resnet_unet import ResNetUNet
from medsr.networks.rrdbnet import RRDBNet
from medsr.networks.segmentation_unet import SegmentationUNet
from medsr.networks.spec import Family, NetworkSpec
from medsr.networks.srcnn import SRCNN, SRCNN3D
from medsr.networks.srdensenet import SRDenseNet
from medsr.networks.srresnet import MSRResNet, SRResNet
from medsr.networks.swinir import SwinIR
from medsr.networks.whole_scale import WholeScale, whole_scale

__all__ = [
    "EDSR",
    "HAN",
    "MDSR",
    "MIASSR",
    "NETWORKS",
    "PRESETS",
    "RCAN",
    "RDN",
    "RDST",
    "SRCNN",
    "SRCNN3D",
    "ConvNetSR",
    "Family",
    "LesionDetector",
    "MSGANDiscriminator",
    "MSGANGenerator",
    "MSRResNet",
    "MSSRResNet",
    "MetaRDN",
    "MetaSRGANDiscriminator",
    "MetaSRGANGenerator",
    "MetaUpscale",
    "NetworkSpec",
    "Preset",
    "Query",
    "RRDBNet",
    "ReCNN",
    "ResNetEncoder",
    "ResNetUNet",
    "SRDenseNet",
    "SRGANDiscriminator",
    "SRResNet",
    "SegmentationUNet",
    "SwinIR",
    "WholeScale",
    "create",
    "lesion_box",
    "load_checkpoint",
    "whole_scale",
]
