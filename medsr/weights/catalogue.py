"""Weight files of other publishers that losses, metrics and networks can use, and that medsr may not redistribute."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExternalFile:
    """A public file of weights.

    Attributes:
        name: The name by which code asks for it.
        file: The file name, which ends with the first eight digits of the hash, as torchvision names files.
        purpose: What the file is used for.
        terms: The licence of the weights, and of the images that they were trained on.
        source: The URL at which the file is published.
        size: The size in bytes.
        sha256: The SHA-256 of the whole file.
    """

    name: str
    file: str
    purpose: str
    terms: str
    source: str
    size: int
    sha256: str


# The sizes and hashes are those that several independent public projects state for these files. The first eight digits
# of each hash are part of the publisher's own file name.
_IMAGENET = "trained on ImageNet, whose images are for non-commercial research"
_TORCHVISION = "https://download.pytorch.org/models"
EXTERNAL = {
    entry.name: entry
    for entry in (
        ExternalFile(
            "vgg19-imagenet",
            "vgg19-dcbb9e9d.pth",
            "perceptual and texture losses on VGG-19 features",
            f"BSD-3-Clause (torchvision); {_IMAGENET}",
            f"{_TORCHVISION}/vgg19-dcbb9e9d.pth",
            574_673_361,
            "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        ),
        ExternalFile(
            "resnet34-imagenet",
            "resnet34-b627a593.pth",
            "first weights of the ResNet-34 U-Net's encoder",
            f"BSD-3-Clause (torchvision); {_IMAGENET}",
            f"{_TORCHVISION}/resnet34-b627a593.pth",
            87_319_819,
            "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
        ),
        ExternalFile(
            "inception-fid",
            "pt_inception-2015-12-05-6726825d.pth",
            "Fréchet inception distance (FID)",
            f"Apache-2.0 (TensorFlow's Inception of 2015, as pytorch-fid converted it); {_IMAGENET}",
            "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
            95_628_359,
            "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        ),
    )
}
