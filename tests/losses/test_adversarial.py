"""Adversarial losses against their equations, by hand and in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.losses import (
    ADVERSARIAL,
    WGAN,
    WGANGP,
    RelativisticAverageGAN,
    VanillaGAN,
    adversarial_loss,
    gradient_penalty,
)

REAL, FAKE = torch.tensor([[1.0], [3.0]]), torch.tensor([[-1.0], [0.0]])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_vanilla_is_binary_cross_entropy() -> None:
    loss = VanillaGAN()
    ones, zeros = torch.ones_like(REAL), torch.zeros_like(REAL)
    cross_entropy = F.binary_cross_entropy_with_logits
    assert torch.allclose(loss.discriminator(REAL, FAKE), cross_entropy(REAL, ones) + cross_entropy(FAKE, zeros))
    assert torch.allclose(loss.generator(FAKE), cross_entropy(FAKE, ones)), "non-saturating: not log(1 - D)"


def test_relativistic_average_by_hand() -> None:
    """E C(real) = 2, E C(fake) = -1/2."""
    real_part = -(math.log(sigmoid(1.5)) + math.log(sigmoid(3.5))) / 2
    fake_part = -(math.log(1 - sigmoid(-3.0)) + math.log(1 - sigmoid(-2.0))) / 2
    loss = RelativisticAverageGAN()
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx((real_part + fake_part) / 2, rel=1e-6)
    real_part = -(math.log(1 - sigmoid(1.5)) + math.log(1 - sigmoid(3.5))) / 2
    fake_part = -(math.log(sigmoid(-3.0)) + math.log(sigmoid(-2.0))) / 2
    assert loss.generator(FAKE, REAL).item() == pytest.approx((real_part + fake_part) / 2, rel=1e-6)


def test_relativistic_generator_leaves_real_scores_alone() -> None:
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    RelativisticAverageGAN().generator(fake, real).backward()
    assert real.grad is None
    assert (fake.grad < 0).all(), "higher scores of SR are better"
    with pytest.raises(MedsrError, match="scores of HR"):
        RelativisticAverageGAN().generator(FAKE)


@pytest.mark.parametrize("loss", [WGAN(), WGANGP()])
def test_wasserstein_distance(loss: WGAN) -> None:
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(-0.5 - 2)
    assert loss.generator(FAKE).item() == pytest.approx(0.5)


def test_weights_are_clipped_by_wgan_alone() -> None:
    critic = nn.Linear(3, 1)
    with torch.no_grad():
        critic.weight.copy_(torch.tensor([[0.5, -0.5, 0.001]]))
    for untouched in (WGAN(clip=None), WGANGP(), VanillaGAN()):
        untouched.constrain(critic)
        assert critic.weight.abs().max() == 0.5
    WGAN().constrain(critic)
    assert critic.weight.tolist() == [pytest.approx([0.01, -0.01, 0.001])]
    assert critic.bias.abs().max() <= 0.01


def test_gradient_penalty_of_a_linear_critic() -> None:
    """The gradient of w.x is w everywhere: (|w| - 1)^2, whose derivative is 2 (|w| - 1) w / |w|."""
    critic = nn.Linear(12, 1)
    real, fake = torch.rand(5, 3, 4), torch.rand(5, 3, 4)

    def score(x: torch.Tensor) -> torch.Tensor:
        return critic(x.flatten(1))

    norm = critic.weight.norm()
    value = WGANGP(10).penalty(score, real, fake)
    assert value.item() == pytest.approx(10 * (norm.item() - 1) ** 2, rel=1e-5)
    value.backward()
    expected = 10 * 2 * (norm - 1) * critic.weight / norm
    assert torch.allclose(critic.weight.grad, expected, rtol=1e-4)
    assert critic.bias.grad is None or not critic.bias.grad.any()


def test_points_lie_between_pairs_one_share_each() -> None:
    seen = []

    def critic(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach())
        return (x**2).sum((1, 2))

    torch.manual_seed(0)
    real, fake = torch.zeros(64, 2, 3), torch.ones(64, 2, 3)
    value = gradient_penalty(critic, real, fake)
    share = seen[0]
    assert (share.flatten(1).std(1) < 1e-6).all(), "one share for all of an image"
    assert share[:, 0, 0].std() > 0.2, "another share for another image"
    assert share.min() >= 0
    assert share.max() <= 1
    expected = ((2 * share[:, 0, 0] * math.sqrt(6) - 1) ** 2).mean()  # |2 x| of six equal numbers
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_penalty_of_a_flat_critic_is_differentiable() -> None:
    critic = nn.Linear(4, 1)
    nn.init.zeros_(critic.weight)
    value = gradient_penalty(critic, torch.rand(2, 4), torch.rand(2, 4))
    value.backward()
    assert value.item() == pytest.approx(1, abs=1e-4)
    assert torch.isfinite(critic.weight.grad).all()


def test_penalty_is_in_full_precision_under_autocast() -> None:
    critic = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    real, fake = torch.rand(3, 4), torch.rand(3, 4)
    torch.manual_seed(1)
    plain = gradient_penalty(critic, real, fake)
    torch.manual_seed(1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        mixed = gradient_penalty(critic, real, fake)
    assert torch.equal(plain, mixed)
    with pytest.raises(MedsrError, match="one size"):
        gradient_penalty(critic, real, fake[:2])


def test_scores_of_half_precision_do_not_overflow() -> None:
    huge = torch.full((2, 1), 6e4, dtype=torch.float16)
    for kind in ADVERSARIAL:
        loss = adversarial_loss(kind)
        assert torch.isfinite(loss.discriminator(-huge, huge))
        assert torch.isfinite(loss.generator(-huge, huge))


def test_by_name() -> None:
    assert isinstance(adversarial_loss("wgan-gp"), WGANGP)
    assert adversarial_loss("wgan", clip=0.1).clip == 0.1
    made = WGANGP(3)
    assert adversarial_loss(made) is made
    with pytest.raises(MedsrError, match="vanilla, ragan, wgan, wgan-gp, got 'lsgan'"):
        adversarial_loss("lsgan")
    with pytest.raises(MedsrError, match="positive"):
        WGAN(0)
    with pytest.raises(MedsrError, match="not negative"):
        WGANGP(-1)


@pytest.mark.parametrize("kind", list(ADVERSARIAL))
def test_generator_moves_to_the_data(kind: str) -> None:
    """One number, data at 2: each kind brings the generator from 0 near to it."""
    torch.manual_seed(0)
    loss = adversarial_loss(kind)
    position = nn.Parameter(torch.zeros(1))
    critic = nn.Sequential(nn.Linear(1, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    g_optimizer = torch.optim.SGD([position], lr=0.1)
    d_optimizer = torch.optim.Adam(critic.parameters(), lr=0.01, betas=(0.0, 0.9))
    steps = {"wgan": 2500}.get(kind, 150)  # clipped weights give slopes of 1e-3 at most
    if kind == "wgan":
        g_optimizer.param_groups[0]["lr"] = 3.0
    for _ in range(steps):
        real, fake = 2 + 0.3 * torch.randn(32, 1), position + 0.3 * torch.randn(32, 1)
        d_optimizer.zero_grad()
        value = loss.discriminator(critic(real), critic(fake.detach()))
        penalty = loss.penalty(critic, real, fake)
        (value if penalty is None else value + penalty).backward()
        d_optimizer.step()
        loss.constrain(critic)
        g_optimizer.zero_grad()
        loss.generator(critic(fake), critic(real) if loss.generator_needs_real else None).backward()
        g_optimizer.step()
        if position.item() > 1.5:
            break
    assert position.item() > 1.5
