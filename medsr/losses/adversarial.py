"""Adversarial losses: what a discriminator minimises, and what it then tells the generator.

Each kind is an object with the two terms as functions of scores; C(x) is the discriminator's raw score of an image, s
the logistic function, E the mean over the batch (of each process, under torchrun).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError

Critic = Callable[[torch.Tensor], torch.Tensor]


class AdversarialLoss:
    """One kind of adversarial training.

    Attributes:
        generator_needs_real: the generator's term compares with the scores of real images.
    """

    generator_needs_real = False

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """What the discriminator minimises.

        Args:
            real: scores of HR images, (B, 1) or a map.
            fake: scores of SR images.
        """
        raise NotImplementedError

    def generator(self, fake: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """What the generator minimises.

        Args:
            fake: scores of SR images.
            real: scores of HR images, where `generator_needs_real`; no gradient flows into them.
        """
        raise NotImplementedError

    def penalty(self, critic: Critic, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor | None:
        """What is added to the discriminator's loss for its gradients; None where there is no such thing."""
        return None

    def constrain(self, critic: nn.Module) -> None:
        """What is done to the discriminator's parameters after each of its steps."""


class VanillaGAN(AdversarialLoss):
    """Binary cross-entropy, the generator's term not saturating (Goodfellow et al. 2014, algorithm 1, section 3).

    D: -E[log s(C(real))] - E[log(1 - s(C(fake)))]; G: -E[log s(C(fake))]. Scores are logits.
    """

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """See `AdversarialLoss.discriminator`."""
        return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()

    def generator(self, fake: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """See `AdversarialLoss.generator`."""
        return F.softplus(-fake.float()).mean()


class RelativisticAverageGAN(AdversarialLoss):
    """Real images shall look more real than the average SR image (Jolicoeur-Martineau 2019; ESRGAN, equations 1 and 2).

    D: (-E[log s(C(real) - E C(fake))] - E[log(1 - s(C(fake) - E C(real)))]) / 2; G: the same with real and fake
    exchanged. The papers print sums; the halves are those of the dissertation's and of ESRGAN's programs.
    """

    generator_needs_real = True

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """See `AdversarialLoss.discriminator`."""
        real, fake = real.float(), fake.float()
        return (F.softplus(fake.mean() - real).mean() + F.softplus(fake - real.mean()).mean()) / 2

    def generator(self, fake: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """See `AdversarialLoss.generator`.

        Raises:
            MedsrError: no scores of real images.
        """
        if real is None:
            raise MedsrError("a relativistic generator loss compares with the scores of HR images, got none")
        return self.discriminator(fake, real.detach())


class WGAN(AdversarialLoss):
    """The earth mover's distance by a critic of bounded weights (Arjovsky et al. 2017, equations 2 and 3).

    D: E C(fake) - E C(real); G: -E C(fake). After each step of the critic its weights are clipped to [-clip, clip].
    Without clipping, and with a critic that ends in a sigmoid, this is Meta-SRGAN's loss as its authors' program has
    it, but for constants.

    Args:
        clip: largest absolute weight (the papers' 0.01); None to leave the weights alone.

    Raises:
        MedsrError: a bound that is not positive.
    """

    def __init__(self, clip: float | None = 0.01) -> None:
        if clip is not None and not clip > 0:
            raise MedsrError(f"weights are clipped to a positive number, or null for not at all; got {clip}")
        self.clip = clip

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """See `AdversarialLoss.discriminator`."""
        return fake.float().mean() - real.float().mean()

    def generator(self, fake: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """See `AdversarialLoss.generator`."""
        return -fake.float().mean()

    def constrain(self, critic: nn.Module) -> None:
        """Clip the weights."""
        if self.clip is not None:
            with torch.no_grad():
                for parameter in critic.parameters():
                    parameter.clamp_(-self.clip, self.clip)


class WGANGP(WGAN):
    """WGAN with a penalty on the critic's gradients in place of clipping (Gulrajani et al. 2017, equation 3).

    D: E C(fake) - E C(real) + weight E[(|grad C(x)|_2 - 1)^2], x = a fake + (1 - a) real with one a of each image,
    uniform in [0, 1]. A critic with batch norm makes an image's score depend on the others, for which the penalty is
    not meant. (The dissertation prints a coefficient of 1 and an unnamed norm in equations 3.19 and 4.17; its program
    has 10 and the Euclidean norm.)

    Args:
        weight: of the penalty.

    Raises:
        MedsrError: a negative weight.
    """

    def __init__(self, weight: float = 10.0) -> None:
        super().__init__(clip=None)
        if not weight >= 0:
            raise MedsrError(f"the weight of a gradient penalty is not negative, got {weight}")
        self.weight = weight

    def penalty(self, critic: Critic, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """The weighted penalty, in float32 whatever autocast says: half precision does not differentiate twice."""
        return self.weight * gradient_penalty(critic, real, fake)


def gradient_penalty(critic: Critic, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Mean over the batch of (|gradient of the score|_2 - 1)^2 at random points between real and fake images.

    Args:
        critic: (B, ...) images to scores; differentiable twice.
        real: (B, ...) images.
        fake: likewise, of the same size.

    Returns:
        A scalar that can be differentiated with respect to the critic's parameters.

    Raises:
        MedsrError: images of two sizes.
    """
    if real.shape != fake.shape:
        raise MedsrError(f"real and fake images have one size, got {tuple(real.shape)} and {tuple(fake.shape)}")
    with torch.autocast(real.device.type, enabled=False), torch.enable_grad():
        real, fake = torch.as_tensor(real).detach().float(), torch.as_tensor(fake).detach().float()
        share = torch.rand([len(real), *(1 for _ in real.shape[1:])], device=real.device)
        between = (share * fake + (1 - share) * real).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        # The root has no derivative at 0; the tiny constant keeps the gradient of a flat critic finite.
        norm = (slope.flatten(1).square().sum(1) + 1e-12).sqrt()
        return (norm - 1).square().mean()


ADVERSARIAL: Mapping[str, type[AdversarialLoss]] = {
    "vanilla": VanillaGAN,
    "ragan": RelativisticAverageGAN,
    "wgan": WGAN,
    "wgan-gp": WGANGP,
}


def adversarial_loss(kind: str | AdversarialLoss, **arguments: Any) -> AdversarialLoss:
    """A kind of adversarial training by name; an object is returned as it is.

    Args:
        kind: "vanilla", "ragan", "wgan" or "wgan-gp".
        arguments: of its class.

    Raises:
        MedsrError: an unknown name.
    """
    if isinstance(kind, AdversarialLoss):
        return kind
    if kind not in ADVERSARIAL:
        raise MedsrError(f"an adversarial loss is one of {', '.join(ADVERSARIAL)}, got {kind!r}")
    return ADVERSARIAL[kind](**arguments)
