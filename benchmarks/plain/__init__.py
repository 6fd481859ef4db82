"""Each network once more, literally and unfused: the opponent of the benchmark and an oracle for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.plain.convnet import convnet
from benchmarks.plain.discriminators import meta_srgan_discriminator, msgan_discriminator, srgan_discriminator
from benchmarks.plain.edsr import edsr
from benchmarks.plain.han import han
from benchmarks.plain.lesion_detector import lesion_detector
from benchmarks.plain.mdsr import mdsr
from benchmarks.plain.meta_upscale import meta_srgan, metardn, miassr
from benchmarks.plain.msgan import msgan, mssrresnet
from benchmarks.plain.rcan import rcan
from benchmarks.plain.rdn import rdn
from benchmarks.plain.rdst import rdst
from benchmarks.plain.recnn import recnn
from benchmarks.plain.resnet_unet import resnet_unet
from benchmarks.plain.rrdbnet import rrdbnet
from benchmarks.plain.segmentation_unet import segmentation_unet
from benchmarks.plain.srcnn import srcnn
from benchmarks.plain.srdensenet import srdensenet
from benchmarks.plain.srresnet import msrresnet, srresnet
from benchmarks.plain.swinir import swinir

# Class name -> function that takes a network and returns its plain forward pass, on the same parameters.
FORMULATIONS: dict[str, Callable[[Any], Callable[[torch.Tensor], torch.Tensor]]] = {
    "SwinIR": swinir,
    "RDST": rdst,
    "ConvNetSR": convnet,
    "EDSR": edsr,
    "HAN": han,
    "LesionDetector": lesion_detector,
    "MDSR": mdsr,
    "MetaRDN": metardn,
    "MetaSRGANGenerator": meta_srgan,
    "MIASSR": miassr,
    "MetaSRGANDiscriminator": meta_srgan_discriminator,
    "MSGANDiscriminator": msgan_discriminator,
    "MSGANGenerator": msgan,
    "MSRResNet": msrresnet,
    "MSSRResNet": mssrresnet,
    "RCAN": rcan,
    "RDN": rdn,
    "ReCNN": recnn,
    "ResNetUNet": resnet_unet,
    "RRDBNet": rrdbnet,
    "SegmentationUNet": segmentation_unet,
    "SRCNN": srcnn,
    "SRCNN3D": srcnn,
    "SRDenseNet": srdensenet,
    "SRGANDiscriminator": srgan_discriminator,
    "SRResNet": srresnet,
}
