"""The list of methods, from which the exports of the package, the presets, the tables and the tests are derived.

It imports nothing, so that `medsr.networks` knows its names without importing torch.
"""

# One line per method: its file in this package, and the names that the package exports from it. The `PRESETS` of the
# file contain at least one published configuration of each network that is named here.
METHODS: dict[str, tuple[str, ...]] = {
    "convnet": ("ConvNetSR",),
    "discriminators": ("SRGANDiscriminator", "MSGANDiscriminator", "MetaSRGANDiscriminator"),
    "edsr": ("EDSR",),
    "han": ("HAN",),
    "lesion_detector": ("LesionDetector", "lesion_box"),
    "mdsr": ("MDSR",),
    "meta_srgan": ("MetaSRGANGenerator",),
    "metardn": ("MetaRDN",),
    "miassr": ("MIASSR",),
    "msgan": ("MSGANGenerator", "MSSRResNet"),
    "rcan": ("RCAN",),
    "rdn": ("RDN",),
    "rdst": ("RDST",),
    "recnn": ("ReCNN",),
    "resnet_unet": ("ResNetUNet",),
    "rrdbnet": ("RRDBNet",),
    "segmentation_unet": ("SegmentationUNet",),
    "srcnn": ("SRCNN", "SRCNN3D"),
    "srdensenet": ("SRDenseNet",),
    "srresnet": ("SRResNet", "MSRResNet"),
    "swinir": ("SwinIR",),
}
