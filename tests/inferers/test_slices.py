"""2D networks on volumes, slice by slice, by anatomy."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from medsr.errors import InputError
from medsr.inferers import SliceInferer


class RowSum(nn.Module):
    """Mixes the first axis of a slice only, so that the wrong plane gives something else; two channels out."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mixed = image.cumsum(2)
        return torch.cat([mixed, image], 1)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_plane_is_found_in_the_affine(plane: str, order: tuple[int, ...]) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order]
    volume = torch.rand(1, 1, 5, 6, 7)
    result = SliceInferer(plane, batch_size=2)(MetaTensor(volume, affine=torch.as_tensor(affine)), RowSum())
    across = order.index({"sagittal": 0, "coronal": 1, "axial": 2}[plane])
    first = min(axis for axis in range(3) if axis != across)
    assert isinstance(result, MetaTensor)
    assert torch.equal(result.affine, torch.as_tensor(affine))
    torch.testing.assert_close(result.as_tensor()[:, :1], volume.cumsum(2 + first))
    torch.testing.assert_close(result.as_tensor()[:, 1:], volume)


def test_batch_of_volumes_and_plain_images() -> None:
    volumes = torch.rand(3, 1, 5, 6, 4)
    result = SliceInferer(batch_size=5)(volumes, RowSum())
    torch.testing.assert_close(result[:, :1], volumes.cumsum(2))
    images = torch.rand(2, 1, 5, 6)
    torch.testing.assert_close(SliceInferer()(images, RowSum()), RowSum()(images))


def test_batches_have_a_slice_at_least() -> None:
    with pytest.raises(InputError, match="batch_size must be one or more slices, got 0"):
        SliceInferer(batch_size=0)
