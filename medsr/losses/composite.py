"""Several losses as one, each term known by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from medsr.errors import MedsrError


class WeightedLoss(nn.Module):
    """A weighted sum of losses of (SR, HR) that remembers its terms.

    Args:
        terms: losses by name.
        weights: factors by name, 1 where absent, or one for each term in their order. A term of weight 0 is not
            computed.

    Attributes:
        last: unweighted values of the last call by name, detached, for logs.

    Raises:
        MedsrError: no terms, or weights that do not fit them.
    """

    def __init__(
        self, terms: Mapping[str, nn.Module], weights: Mapping[str, float] | Sequence[float] | None = None
    ) -> None:
        super().__init__()
        given = weights if isinstance(weights, Mapping) else dict(zip(terms, weights or (), strict=False))
        counted = weights is not None and not isinstance(weights, Mapping)
        unknown = sorted(set(given) - set(terms))
        if not terms or unknown or (counted and len(weights or ()) != len(terms)):
            raise MedsrError(f"expected weights for the terms {', '.join(terms) or '(none)'}, got {weights}")
        self.terms = nn.ModuleDict(terms)
        self.weights = {name: float(given.get(name, 1.0)) for name in terms}
        self.last: dict[str, torch.Tensor] = {}

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        """(B, C, *spatial) twice, to a scalar.

        Raises:
            MedsrError: images of two sizes.
        """
        if sr.shape != hr.shape:
            raise MedsrError(f"SR and HR images have one size, got {tuple(sr.shape)} and {tuple(hr.shape)}")
        total = sr.new_zeros(())
        self.last = {}
        for name, loss in self.terms.items():
            if self.weights[name]:
                value = loss(sr, hr)
                self.last[name] = value.detach()
                total = total + self.weights[name] * value
        return total
