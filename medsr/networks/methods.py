"""The one list of methods: the package's exports, the presets, the tables and the tests all come from it.

It imports nothing, so that `medsr.networks` knows its names without importing torch.
"""

# One line a method: its file in this package, and what the package exports of it. The file has a `PRESETS` with a
# published configuration, or several, of each network that is named here.
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
