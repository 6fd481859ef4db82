"""The weighted sum of several named losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from medsr.errors import MedsrError


class WeightedLoss(nn.Module):
    """A weighted sum of losses of (SR, HR) that keeps the values of its terms for logs.

    Args:
        terms: The losses by name.
        weights: The factors by name (1 for a name that is absent), or one factor per term in the order of the terms.
            A term of weight 0 is not computed.

    Attributes:
        last: The unweighted values of the last call by name, detached.

    Raises:
        MedsrError: If there are no terms, or the weights do not fit them.

    Examples:
        >>> import torch
        >>> from medsr.losses import WeightedLoss
        >>> loss = WeightedLoss({"l1": torch.nn.L1Loss(), "mse": torch.nn.MSELoss()}, {"mse": 0.5})
        >>> sr, hr = torch.full((1, 1, 4, 4), 2.0), torch.zeros(1, 1, 4, 4)
        >>> loss(sr, hr).item()  # 2 + 0.5 * 4
        4.0
        >>> {name: value.item() for name, value in loss.last.items()}
        {'l1': 2.0, 'mse': 4.0}
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
        """Return the weighted sum for SR and HR images, both (B, C, *spatial), as a scalar.

        Raises:
            MedsrError: If the sizes of the images differ.
        """
        if sr.shape != hr.shape:
            raise MedsrError(f"expected SR and HR images of one size, got {tuple(sr.shape)} and {tuple(hr.shape)}")
        total = sr.new_zeros(())
        self.last = {}
        for name, loss in self.terms.items():
            if self.weights[name]:
                value = loss(sr, hr)
                self.last[name] = value.detach()
                total = total + self.weights[name] * value
        return total
