"""Adversarial losses: the terms that the discriminator and the generator minimise.

Each kind is an object whose two terms are functions of scores. C(x) is the raw score that the discriminator gives an
image, s is the logistic function, and E is the mean over the batch (of each process, under torchrun).
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
    """The base of all kinds of adversarial training.

    Attributes:
        generator_needs_real: Whether the generator's term also needs the scores of real images.
    """

    generator_needs_real = False

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """Return the loss that the discriminator minimises.

        Args:
            real: The scores of HR images, (B, 1) or a map.
            fake: The scores of SR images, of the same form.
        """
        raise NotImplementedError

    def generator(self, fake: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """Return the loss that the generator minimises.

        Args:
            fake: The scores of SR images.
            real: The scores of HR images, required if `generator_needs_real`; no gradient flows into them.
        """
        raise NotImplementedError

    def penalty(self, critic: Critic, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor | None:
        """Return the gradient penalty that is added to the discriminator's loss, or None if this kind has none."""
        return None

    def constrain(self, critic: nn.Module) -> None:
        """Constrain the discriminator's parameters; called after each of its steps."""


class VanillaGAN(AdversarialLoss):
    """The original GAN loss: binary cross-entropy with the non-saturating generator term.

    Goodfellow et al. 2014, algorithm 1 and section 3. The scores are logits.
    D: -E[log s(C(real))] - E[log(1 - s(C(fake)))]; G: -E[log s(C(fake))].
    """

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """See `AdversarialLoss.discriminator`."""
        return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()

    def generator(self, fake: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """See `AdversarialLoss.generator`."""
        return F.softplus(-fake.float()).mean()


class RelativisticAverageGAN(AdversarialLoss):
    """The relativistic average GAN loss, which compares an HR image with the average SR image and vice versa.

    Jolicoeur-Martineau 2019; ESRGAN, equations 1 and 2.
    D: (-E[log s(C(real) - E C(fake))] - E[log(1 - s(C(fake) - E C(real)))]) / 2; G: the same with real and fake
    exchanged. The papers print sums; the programs of the dissertation and of ESRGAN take half of them, as is done here.
    """

    generator_needs_real = True

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """See `AdversarialLoss.discriminator`."""
        real, fake = real.float(), fake.float()
        return (F.softplus(fake.mean() - real).mean() + F.softplus(fake - real.mean()).mean()) / 2

    def generator(self, fake: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """See `AdversarialLoss.generator`.

        Raises:
            MedsrError: If there are no scores of real images.
        """
        if real is None:
            raise MedsrError("a relativistic generator loss needs the scores of HR images, got none")
        return self.discriminator(fake, real.detach())


class WGAN(AdversarialLoss):
    """The earth mover's distance, estimated by a critic with bounded weights (Arjovsky et al. 2017, equations 2 and 3).

    D: E C(fake) - E C(real); G: -E C(fake). After each step of the critic its weights are clipped to [-clip, clip].
    Without clipping, and with a critic that ends in a sigmoid, this is the loss of Meta-SRGAN in its authors' program,
    up to constants.

    Args:
        clip: The largest absolute weight (0.01 in the paper); None leaves the weights unclipped.

    Raises:
        MedsrError: If the bound is not positive.
    """

    def __init__(self, clip: float | None = 0.01) -> None:
        if clip is not None and not clip > 0:
            raise MedsrError(f"expected a positive bound for clipping, or null for no clipping, got {clip}")
        self.clip = clip

    def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """See `AdversarialLoss.discriminator`."""
        return fake.float().mean() - real.float().mean()

    def generator(self, fake: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """See `AdversarialLoss.generator`."""
        return -fake.float().mean()

    def constrain(self, critic: nn.Module) -> None:
        """Clip the critic's weights to [-clip, clip]."""
        if self.clip is not None:
            with torch.no_grad():
                for parameter in critic.parameters():
                    parameter.clamp_(-self.clip, self.clip)


class WGANGP(WGAN):
    """WGAN with a penalty on the critic's gradients in place of clipping (Gulrajani et al. 2017, equation 3).

    D: E C(fake) - E C(real) + weight E[(|grad C(x)|_2 - 1)^2], where x = a fake + (1 - a) real with one a per image,
    uniform in [0, 1]. The penalty is not meant for a critic with batch norm, which makes the score of an image depend
    on the other images. (The dissertation prints a coefficient of 1 and does not name the norm in equations 3.19 and
    4.17; its program uses 10 and the Euclidean norm.)

    Args:
        weight: The weight of the penalty.

    Raises:
        MedsrError: If the weight is negative.
    """

    def __init__(self, weight: float = 10.0) -> None:
        super().__init__(clip=None)
        if not weight >= 0:
            raise MedsrError(f"expected a weight of the gradient penalty that is not negative, got {weight}")
        self.weight = weight

    def penalty(self, critic: Critic, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """Return the weighted penalty in float32, also under autocast: half precision does not differentiate twice."""
        return self.weight * gradient_penalty(critic, real, fake)


def gradient_penalty(critic: Critic, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Return the batch mean of (|gradient of the score|_2 - 1)^2 at random points between real and fake images.

    Args:
        critic: The function from images (B, ...) to scores; it must be differentiable twice.
        real: The real images, (B, ...).
        fake: The fake images, of the same size.

    Returns:
        A scalar that can be differentiated with respect to the critic's parameters.

    Raises:
        MedsrError: If the sizes of the images differ.
    """
    if real.shape != fake.shape:
        raise MedsrError(f"expected real and fake images of one size, got {tuple(real.shape)} and {tuple(fake.shape)}")
    with torch.autocast(real.device.type, enabled=False), torch.enable_grad():
        real, fake = torch.as_tensor(real).detach().float(), torch.as_tensor(fake).detach().float()
        share = torch.rand([len(real), *(1 for _ in real.shape[1:])], device=real.device)
        between = (share * fake + (1 - share) * real).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        # The square root has no derivative at 0; the tiny constant keeps the gradient of a flat critic finite.
        norm = (slope.flatten(1).square().sum(1) + 1e-12).sqrt()
        return (norm - 1).square().mean()


ADVERSARIAL: Mapping[str, type[AdversarialLoss]] = {
    "vanilla": VanillaGAN,
    "ragan": RelativisticAverageGAN,
    "wgan": WGAN,
    "wgan-gp": WGANGP,
}


def adversarial_loss(kind: str | AdversarialLoss, **arguments: Any) -> AdversarialLoss:
    """Return the adversarial loss of the given name; an object is returned as it is.

    Args:
        kind: "vanilla", "ragan", "wgan" or "wgan-gp", or an object.
        **arguments: The arguments of the class that the name stands for.

    Raises:
        MedsrError: If the name is unknown.

    Examples:
        >>> import torch
        >>> from medsr.losses import adversarial_loss
        >>> loss = adversarial_loss("wgan", clip=0.01)
        >>> real, fake = torch.tensor([[3.0], [1.0]]), torch.tensor([[0.5], [0.5]])
        >>> loss.discriminator(real, fake).item(), loss.generator(fake).item()
        (-1.5, -0.5)
    """
    if isinstance(kind, AdversarialLoss):
        return kind
    if kind not in ADVERSARIAL:
        raise MedsrError(f"an adversarial loss is one of {', '.join(ADVERSARIAL)}, got {kind!r}")
    return ADVERSARIAL[kind](**arguments)
