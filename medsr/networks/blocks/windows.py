"""How an image is cut into windows and its tokens are put into their order (Liu et al. 2021, section 3.2).

An image is cut into windows once, and its tokens stay in the order of windows through a row of layers: norms and
MLPs work on single tokens, attention on single windows, so only a shift of the windows, the next convolution or the
end puts them into another order, each by one gather. The mask of a window depends only on whether it lies at the
end of a row, of a column, of both or of none: there are four masks, whatever the size of the image. Windows of a
kind lie together, so that none is repeated for an image.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import nn

from medsr.networks.blocks.upsamplers import halo_of

IMAGE, WINDOWS, SHIFTED = 0, 1, 2  # orders of tokens: by pixels, by windows, by shifted windows

_MASKED = -100.0  # added where tokens must not meet, as published; whatever is beside it vanishes in float32


class Plan(NamedTuple):
    """Where the tokens of B images of one size go, and what their windows need to know.

    Attributes:
        moves: for each pair of orders (from, to), at 3 from + to: for every place, where its token comes from.
        batch: B.
        size: H and W.
        tokens: N, of a window.
        relative: (N N), the row of the bias table for each pair of tokens of a window.
        masks: for each order, (K, N, N) to be added to attention logits, one for each kind of window.
        counts: for each order, the windows of each kind; empty if every window has a mask of its own.
    """

    moves: list[torch.Tensor]
    batch: int
    size: list[int]
    tokens: int
    relative: torch.Tensor
    masks: list[torch.Tensor]
    counts: list[list[int]]


def to_windows(x: torch.Tensor, plan: Plan, here: int = IMAGE, there: int = WINDOWS) -> torch.Tensor:
    """Tokens (anything, C) in one order to (windows, B, N, C) in one of windows."""
    x = x.reshape(-1, x.shape[-1])
    if here != there:
        x = x.index_select(0, plan.moves[3 * here + there])
    return x.reshape(-1, plan.batch, plan.tokens, x.shape[-1])


def to_image(x: torch.Tensor, plan: Plan, here: int = WINDOWS) -> torch.Tensor:
    """Tokens (anything, C) in an order of windows to an image (B, C, H, W), channels last in memory."""
    x = x.reshape(-1, x.shape[-1]).index_select(0, plan.moves[3 * here])
    return x.reshape(plan.batch, plan.size[0], plan.size[1], x.shape[-1]).permute(0, 3, 1, 2)


def window_orders(rows: int, columns: int, window: int, by_kind: bool, device: torch.device) -> list[torch.Tensor]:
    """Pixels of an image of `rows` times `columns` windows, by windows and by shifted windows.

    Shifted windows are those of the image rolled up and left by half a window. With `by_kind`, those come first that
    hold what lay together before, then those at the end of a row, those at the end of a column, and the last.
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
    """Whether a compiler or exporter looks on, which is better off with whole tensors and no memory."""
    if torch.jit.is_scripting():
        return False
    else:
        return torch.compiler.is_compiling()


@lru_cache(maxsize=8)
def _known_orders(rows: int, columns: int, window: int, device: torch.device) -> list[torch.Tensor]:
    with torch.inference_mode(False):  # else they would be of no use in training
        return window_orders(rows, columns, window, True, device)


class Windows(nn.Module):
    """Makes the plan for images of any size; holds what is the same for all of them.

    Args:
        window: side of the windows, in pixels.
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
        kept = window - window // 2  # rows and columns behind these came in from the other end of the image
        apart = [(at[:, None] < kept) != (at[None, :] < kept) for at in (column, row)]
        none = torch.zeros_like(apart[0])
        kinds = torch.stack([none, apart[0], apart[1], apart[0] | apart[1]])
        self.register_buffer("masks", kinds * _MASKED, persistent=False)

    def forward(self, batch: int, height: int, width: int) -> Plan:
        """Plan for B images of sides that are multiples of the window."""
        rows, columns = height // self.window, width // self.window
        device = self.masks.device
        plain, shifted = self.masks[:1], self.masks
        plain_counts = [rows * columns]
        shifted_counts = [(rows - 1) * (columns - 1), rows - 1, columns - 1, 1]
        if torch.jit.is_scripting():
            orders = window_orders(rows, columns, self.window, True, device)
        elif torch.compiler.is_exporting():  # numbers that are zero for some sizes only are not for all sizes
            orders = window_orders(rows, columns, self.window, False, device)
            ends = [torch.arange(n, device=device) == n - 1 for n in (rows, columns)]
            shifted = shifted[(2 * ends[0][:, None] + ends[1][None, :]).reshape(-1)]
            shifted_counts = []
        elif torch.compiler.is_compiling():
            orders = window_orders(rows, columns, self.window, True, device)
        else:
            orders = _known_orders(rows, columns, self.window, device)
        tokens = self.window * self.window
        first = torch.arange(batch, device=device)[:, None] * (height * width)  # pixel of each image
        by = [(order.reshape(-1, 1, tokens) + first).reshape(-1) for order in orders[1:]]
        places = torch.arange(by[0].shape[0], device=device)
        back = [torch.zeros_like(order).scatter(0, order, places) for order in by]
        moves = [places, by[0], by[1], back[0], places, back[0][by[1]], back[1], back[1][by[0]], places]
        masks, counts = [plain, plain, shifted], [plain_counts, plain_counts, shifted_counts]
        return Plan(moves, batch, [height, width], tokens, self.relative, masks, counts)


def reach(window: int, stages: Sequence[tuple[str, int]], tail: Sequence[tuple[int, int]] = ((1, 0),)) -> int:
    """LR pixels beyond a tile, which starts and ends at multiples of the window, that the tile's SR pixels depend on.

    Args:
        window: The side of the windows, in pixels.
        stages: in the order of computation, ("convolution", radius) or ("window", shift).
        tail: (resolution, radius) of the layers behind them, see `medsr.networks.blocks.upsamplers.halo_of`.
    """
    low, high = -halo_of(tail), window + halo_of(tail)
    for kind, size in reversed(list(stages)):
        if kind == "convolution":
            low, high = low - size, high + size
        else:  # out to the borders of windows
            low, high = (low - size) // window * window + size, -((size - high) // window) * window + size
    return max(-low, high - window)


def pad_to_windows(image: torch.Tensor, window: int) -> torch.Tensor:
    """Continue (B, C, H, W) at the right and bottom to multiples of the window, reflected as often as necessary."""
    for dim in (2, 3):
        size = image.shape[dim]
        padded = (size + window - 1) // window * window
        period = 2 * torch.arange(size, device=image.device)[-1:]  # a tensor, as ONNX has no remainder by a number
        at = torch.arange(padded, device=image.device) % period.clamp(min=1)
        image = image.index_select(dim, torch.minimum(at, period - at))
    return image


def crop(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The upper left part of (B, C, H, W)."""
    if compiling():  # a slice might be the whole image or not, and an exporter would decide
        for dim, size in ((2, height), (3, width)):
            image = image.index_select(dim, torch.arange(size, device=image.device))
        return image
    return image[:, :, :height, :width]
