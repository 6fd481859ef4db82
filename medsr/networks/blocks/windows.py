"""The division of an image into windows and the order of its tokens (Liu et al. 2021, section 3.2).

An image is divided into windows once, and its tokens stay in the order of the windows through several layers. Norms and
MLPs work on single tokens and attention on single windows, so that only a shift of the windows, the next convolution or
the end needs another order, each time with one gather. The mask of a window depends only on whether the window lies at
the end of a row, of a column, of both or of neither, so that there are four masks for any size of the image. Windows
are sorted by these kinds, so that no mask is repeated for an image.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import nn

from medsr.networks.blocks.upsamplers import halo_of

IMAGE, WINDOWS, SHIFTED = 0, 1, 2  # the orders of tokens: by pixels, by windows, by shifted windows

_MASKED = -100.0  # the published logit of masked pairs of tokens, whose weight vanishes in float32


class Plan(NamedTuple):
    """The positions of the tokens of B images of one size in each order, and the masks of their windows.

    Attributes:
        moves: The source of the token at every place, for each pair of orders (from, to) at index 3 from + to.
        batch: The number of images (B).
        size: The height and width of the images (H, W).
        tokens: The number of tokens of a window (N).
        relative: The row of the bias table for each pair of tokens of a window, (N N).
        masks: The masks that are added to attention logits, (K, N, N) for each order, one for each kind of window.
        counts: The number of windows of each kind, for each order; empty if every window has its own mask.
    """

    moves: list[torch.Tensor]
    batch: int
    size: list[int]
    tokens: int
    relative: torch.Tensor
    masks: list[torch.Tensor]
    counts: list[list[int]]


def to_windows(x: torch.Tensor, plan: Plan, here: int = IMAGE, there: int = WINDOWS) -> torch.Tensor:
    """Map tokens (..., C) from the order `here` to windows (windows, B, N, C) in the order `there`."""
    x = x.reshape(-1, x.shape[-1])
    if here != there:
        x = x.index_select(0, plan.moves[3 * here + there])
    return x.reshape(-1, plan.batch, plan.tokens, x.shape[-1])


def to_image(x: torch.Tensor, plan: Plan, here: int = WINDOWS) -> torch.Tensor:
    """Map tokens (..., C) from an order of windows to an image (B, C, H, W) with channels last in memory."""
    x = x.reshape(-1, x.shape[-1]).index_select(0, plan.moves[3 * here])
    return x.reshape(plan.batch, plan.size[0], plan.size[1], x.shape[-1]).permute(0, 3, 1, 2)


def window_orders(rows: int, columns: int, window: int, by_kind: bool, device: torch.device) -> list[torch.Tensor]:
    """Return the pixels of an image of `rows` times `columns` windows in the order of windows and of shifted windows.

    Shifted windows are those of the image rolled up and left by half a window. With `by_kind`, windows that are not cut
    by the border come first, then those at the end of a row, those at the end of a column, and the last one.
    """
    pixels = torch.arange(rows * window * columns * window, device=device).reshape(rows * window, columns * window)
    orders = [torch.empty(0)]
    for shift in (0, window // 2):
        image = pixels.roll((-shift, -shift), (0, 1)).reshape(rows, window, columns, window)
        grid = image.transpose(1, 2).reshape(rows, columns, window * window)
        if by_kind and shift > 0:
            kinds = [grid[:-1, :-1], grid[:-1, -1:], grid[-1:, :-1], grid[-1:, -1:]]
            grid = torch.cat([kind.reshape(-1, window * window) for kind in kinds])
        orders.append(grid.reshape(-1))
    return orders


def compiling() -> bool:
    """Return whether a compiler or exporter traces the code, which needs whole tensors and no caches."""
    if torch.jit.is_scripting():
        return False
    else:
        return torch.compiler.is_compiling()


@lru_cache(maxsize=8)
def _known_orders(rows: int, columns: int, window: int, device: torch.device) -> list[torch.Tensor]:
    with torch.inference_mode(False):  # tensors made in inference mode could not be used in training
        return window_orders(rows, columns, window, True, device)


class Windows(nn.Module):
    """The maker of plans for images of any size; it holds the parts that do not depend on the size.

    Args:
        window: The side of the windows, in pixels.
    """

    relative: torch.Tensor
    masks: torch.Tensor

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window
        row, column = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        row, column = row.reshape(-1), column.reshape(-1)
        between = [at[:, None] - at[None, :] + window - 1 for at in (row, column)]
        self.register_buffer("relative", (between[0] * (2 * window - 1) + between[1]).reshape(-1), persistent=False)
        kept = window - window // 2  # the rows and columns after these come from the other end of the image
        apart = [(at[:, None] < kept) != (at[None, :] < kept) for at in (column, row)]
        none = torch.zeros_like(apart[0])
        kinds = torch.stack([none, apart[0], apart[1], apart[0] | apart[1]])
        self.register_buffer("masks", kinds * _MASKED, persistent=False)

    def forward(self, batch: int, height: int, width: int) -> Plan:
        """Return the plan for B images whose sides are multiples of the window."""
        rows, columns = height // self.window, width // self.window
        device = self.masks.device
        plain, shifted = self.masks[:1], self.masks
        plain_counts = [rows * columns]
        shifted_counts = [(rows - 1) * (columns - 1), rows - 1, columns - 1, 1]
        if torch.jit.is_scripting():
            orders = window_orders(rows, columns, self.window, True, device)
        elif torch.compiler.is_exporting():  # counts that are zero only for some sizes would fix the size
            orders = window_orders(rows, columns, self.window, False, device)
            ends = [torch.arange(n, device=device) == n - 1 for n in (rows, columns)]
            shifted = shifted[(2 * ends[0][:, None] + ends[1][None, :]).reshape(-1)]
            shifted_counts = []
        elif torch.compiler.is_compiling():
            orders = window_orders(rows, columns, self.window, True, device)
        else:
            orders = _known_orders(rows, columns, self.window, device)
        tokens = self.window * self.window
        first = torch.arange(batch, device=device)[:, None] * (height * width)  # the first pixel of each image
        by = [(order.reshape(-1, 1, tokens) + first).reshape(-1) for order in orders[1:]]
        places = torch.arange(by[0].shape[0], device=device)
        back = [torch.zeros_like(order).scatter(0, order, places) for order in by]
        moves = [places, by[0], by[1], back[0], places, back[0][by[1]], back[1], back[1][by[0]], places]
        masks, counts = [plain, plain, shifted], [plain_counts, plain_counts, shifted_counts]
        return Plan(moves, batch, [height, width], tokens, self.relative, masks, counts)


def reach(window: int, stages: Sequence[tuple[str, int]], tail: Sequence[tuple[int, int]] = ((1, 0),)) -> int:
    """Return the halo in LR pixels of a tile that starts and ends at multiples of the window.

    Args:
        window: The side of the windows, in pixels.
        stages: The stages in the order of computation, ("convolution", radius) or ("window", shift).
        tail: The (resolution, radius) of the layers after them, see `medsr.networks.blocks.upsamplers.halo_of`.
    """
    low, high = -halo_of(tail), window + halo_of(tail)
    for kind, size in reversed(list(stages)):
        if kind == "convolution":
            low, high = low - size, high + size
        else:  # extend to the borders of the windows
            low, high = (low - size) // window * window + size, -((size - high) // window) * window + size
    return max(-low, high - window)


def pad_to_windows(image: torch.Tensor, window: int) -> torch.Tensor:
    """Pad (B, C, H, W) at the right and bottom to multiples of the window, with as many reflections as needed."""
    for dim in (2, 3):
        size = image.shape[dim]
        padded = (size + window - 1) // window * window
        period = 2 * torch.arange(size, device=image.device)[-1:]  # a tensor, because ONNX has no remainder by a number
        at = torch.arange(padded, device=image.device) % period.clamp(min=1)
        image = image.index_select(dim, torch.minimum(at, period - at))
    return image


def crop(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the upper left part of (B, C, H, W)."""
    if compiling():  # an exporter would fix whether a slice is the whole image
        for dim, size in ((2, height), (3, width)):
            image = image.index_select(dim, torch.arange(size, device=image.device))
        return image
    return image[:, :, :height, :width]
