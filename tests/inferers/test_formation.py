"""The formation is obeyed: before restore networks, after all networks, for every image of a batch by itself."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from torch import nn

from medsr import degradation
from medsr.degradation import ExactConsistency, mu_of_noise
from medsr.geometry import as_scale
from medsr.inferers import InferenceFacts, SuperResolutionInferer
from medsr.interpolation import resize
from medsr.transforms import SimulateLowResolutiond

FORMATIONS = ["block-mean", "kspace-truncation", "slice-profile", "gaussian-blur:sigma=0.6"]


def smooth(*shape: int, seed: int = 0) -> torch.Tensor:
    """Something with edges and structure, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, *(max(2, n // 4) for n in shape), generator=generator)
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    return nn.functional.interpolate(coarse, shape, mode=mode).clamp(0, 1)[0]


@pytest.fixture
def identity(made):
    """A restore network that returns what it reads."""
    network = made.recnn(3)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


def oracle(inferer: SuperResolutionInferer, sr, lr: torch.Tensor) -> ExactConsistency:
    """Return exact consistency for the noise that was estimated in the image."""
    (found,) = sr.findings
    mu = mu_of_noise(found.formed.formation.noise)
    return ExactConsistency(inferer.formation, sr.image.shape[2:], lr.shape[2:], sr.scale, mu)


@pytest.mark.parametrize("scale", [2, (2, 1, 3), (1.5, 2, 1.5)], ids=str)
@pytest.mark.parametrize("formation", FORMATIONS)
def test_the_result_gives_the_measurement(made, formation, scale):
    lr, network = smooth(12, 14, 10)[None], made.recnn(3)
    inferer = SuperResolutionInferer(scale, formation=formation)
    sr = inferer.enlarge(lr, network)
    plain = SuperResolutionInferer(scale)(lr, network)
    before, after = (
        (lr - inferer.formation(x, sr.scale, shape=lr.shape[2:])).square().mean().sqrt() for x in (plain, sr.image)
    )
    assert after < 0.25 * before  # the blurs of these formations lose some directions to the noise
    torch.testing.assert_close(sr.image, oracle(inferer, sr, lr)(plain, lr), atol=2e-5, rtol=0)


def test_the_residuals_stand_in_the_facts(made):
    lr = MetaTensor(smooth(8, 8, 8)[None], affine=torch.eye(4))
    facts = InferenceFacts.of(SuperResolutionInferer(2, formation="block")(lr, made.recnn(3)))
    assert 0 < facts.guards.consistency_after < 0.1 * facts.guards.consistency_before
    assert facts.formation.degradation.name == "block-mean"
    assert facts.formation.origin == "stated"
    assert InferenceFacts.of(SuperResolutionInferer(2)(lr, made.recnn(3))).formation is None


@pytest.mark.parametrize("scale", [2, (1, 1, 2.5)], ids=str)
def test_a_restore_network_starts_from_the_consistent_image(identity, scale):
    lr = smooth(12, 14, 10)[None]
    inferer = SuperResolutionInferer(scale, formation="slice-profile", start="consistent")
    sr = inferer.enlarge(lr, identity)
    consistency = oracle(inferer, sr, lr)
    torch.testing.assert_close(sr.image, consistency(consistency.start(lr), lr), atol=2e-5, rtol=0)


@pytest.mark.parametrize("start", ["interpolated", "consistent"])
def test_tiles_equal_the_whole(made, noise, start):
    lr, network = noise(1, 1, 14, 12, 10), made.recnn(3)
    options = {"scale": (2, 1.5, 2), "formation": "kspace:window=hamming", "start": start}
    whole = SuperResolutionInferer(**options)(lr, network)
    tiled = SuperResolutionInferer(**options, tile_size=(7, 9, 8))(lr, network)
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("start", ["interpolated", "consistent"])
def test_every_image_of_a_batch_has_its_own_formation(made, start):
    made_by = ["block-mean", "gaussian-blur", "kspace-truncation"]
    items = [
        SimulateLowResolutiond(degradation=name, scale=2)(
            {"label": MetaTensor(smooth(16, 12, 12, seed=k), affine=torch.eye(4))}
        )
        for k, name in enumerate(made_by)
    ]
    inferer, network = SuperResolutionInferer(2, formation="simulated", start=start), made.recnn(3)
    batch = inferer(list_data_collate([{"image": item["image"]} for item in items])["image"], network)
    for result, item, name in zip(decollate_batch(batch), items, made_by, strict=True):
        alone = inferer(list_data_collate([{"image": item["image"]}])["image"], network)
        torch.testing.assert_close(result.as_tensor(), alone[0].as_tensor(), atol=1e-5, rtol=0)
        assert InferenceFacts.of(result).formation.degradation.name == name


def test_slices_obey_the_formation_within_them(made, noise):
    lr, network = noise(1, 1, 8, 6, 5), made.fixed((2, 2))
    inferer = SuperResolutionInferer(2, formation="block")
    sr = inferer(MetaTensor(lr, affine=torch.eye(4)), network).as_tensor()
    assert sr.shape[2:] == (16, 12, 5)
    torch.testing.assert_close(sr.reshape(8, 2, 6, 2, 5).mean((1, 3)), lr[0, 0], atol=0.02 * 3, rtol=0)


class Noisy(nn.Module):
    """A restore network that adds a texture."""

    def __init__(self, inner: nn.Module, size: float) -> None:
        super().__init__()
        self.inner, self.size, self.spec = inner, size, inner.spec

    def forward(self, x: torch.Tensor, scale: list[float] | None = None) -> torch.Tensor:
        chequers = sum(torch.meshgrid(*(torch.arange(n) for n in x.shape[2:]), indexing="ij")) % 2
        return self.inner(x) + self.size * (2 * chequers - 1)


@pytest.mark.parametrize("formation", [None, "block"])
def test_a_result_that_looks_worse_is_replaced_when_it_must_be_safe(identity, formation):
    clean = smooth(24, 24, 24) + 0.002 * torch.randn(1, 24, 24, 24, generator=torch.Generator().manual_seed(1))
    lr = MetaTensor(clean[None], affine=torch.eye(4))
    options = {"scale": 2, "formation": formation}
    bad = SuperResolutionInferer(**options)(lr, Noisy(identity, 0.2))
    assert InferenceFacts.of(bad).guards.exceeded
    kept = SuperResolutionInferer(**options, safe=True)(lr, identity)
    assert not any("taken instead" in text for text in InferenceFacts.of(kept).warnings)
    safe = SuperResolutionInferer(**options, safe=True)(lr, Noisy(identity, 0.2))
    facts = InferenceFacts.of(safe)
    assert any("the interpolated image was taken instead" in text for text in facts.warnings)
    assert not facts.guards.exceeded
    plain = resize(lr.as_tensor(), as_scale(2, 3))
    if formation:
        plain = ExactConsistency(degradation.get("block-mean"), plain.shape[2:], lr.shape[2:], as_scale(2, 3))(
            plain, lr
        )
    torch.testing.assert_close(safe.as_tensor(), torch.as_tensor(plain), atol=2e-3, rtol=0)
