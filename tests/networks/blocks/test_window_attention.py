"""Windows, their orders and masks, attention within them, and how far all of that reaches."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from medsr.networks.blocks import windows
from medsr.networks.blocks.window_attention import TransformerLayer, TransformerLayers, WindowAttention, pieces
from medsr.networks.blocks.windows import IMAGE, SHIFTED, WINDOWS, Windows, pad_to_windows, reach, to_image
from tests.networks.oracles.swinir import from_windows, relative_positions, shift_mask, to_windows, transformer_layers

GRIDS = [(1, 1), (1, 3), (4, 1), (2, 2), (3, 5)]  # rows and columns of windows


def plan_of(side: int, rows: int, columns: int, batch: int = 1) -> windows.Plan:
    return Windows(side)(batch, rows * side, columns * side)


def layers_of(shifted: bool = True, depth: int = 2, side: int = 4, heads: int = 2, each: int = 4, **arguments):
    torch.manual_seed(0)
    layers = TransformerLayers(heads * each, heads, side, 2.0, [0.0] * depth, shifted, **arguments)
    for parameter in layers.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.3)
    return layers.eval()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("side", [2, 3, 4])
def test_orders_of_tokens(grid, side):
    """Images rolled and cut by hand; batches lie within windows."""
    h, w = grid[0] * side, grid[1] * side
    plan = plan_of(side, *grid, batch=3)
    image = torch.arange(3 * h * w).reshape(3, h, w, 1)
    cut = to_windows(image, side).reshape(3, -1, side * side, 1).transpose(0, 1)
    assert torch.equal(windows.to_windows(image, plan), cut)
    shift = side // 2
    rolled = to_windows(image.roll((-shift, -shift), (1, 2)), side).reshape(3, -1, side * side, 1).transpose(0, 1)
    shifted = windows.to_windows(image, plan, IMAGE, SHIFTED)
    assert sorted(shifted.flatten(1).tolist()) == sorted(rolled.flatten(1).tolist())  # by kind, not by place
    for here, tokens in ((WINDOWS, cut), (SHIFTED, shifted)):
        assert torch.equal(to_image(tokens, plan, here), image.permute(0, 3, 1, 2))
        for there, expected in ((WINDOWS, cut), (SHIFTED, shifted)):
            assert torch.equal(windows.to_windows(tokens, plan, here, there), expected)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("side", [2, 3, 4])
def test_every_shifted_window_has_the_mask_of_its_kind(grid, side):
    h, w = grid[0] * side, grid[1] * side
    plan = plan_of(side, *grid)
    places = to_windows(torch.arange(h * w).reshape(1, h, w, 1).roll((-(side // 2),) * 2, (1, 2)), side)[..., 0]
    masks = dict(zip(map(tuple, places.tolist()), shift_mask(h, w, side, side // 2), strict=True))
    kinds = torch.arange(4).repeat_interleave(torch.tensor(plan.counts[SHIFTED]))
    tokens = windows.to_windows(torch.arange(h * w)[:, None], plan, IMAGE, SHIFTED)[:, 0, :, 0]
    for kind, window in zip(kinds, tokens.tolist(), strict=True):
        assert torch.equal(plan.masks[SHIFTED][kind], masks[tuple(window)])
    assert plan.counts[WINDOWS] == [grid[0] * grid[1]]
    assert plan.masks[WINDOWS].abs().max() == 0


def test_relative_positions():
    assert torch.equal(Windows(5).relative.reshape(25, 25), relative_positions(5))


def test_attention_is_multi_head_attention_with_a_bias():
    """torch's own, with the bias table read for every pair of tokens."""
    torch.manual_seed(0)
    ours, theirs = WindowAttention(12, 3, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    for parameter in ours.parameters():
        parameter.data.normal_()
    names = {"in_proj_weight": "qkv.weight", "in_proj_bias": "qkv.bias"}
    names |= {"out_proj.weight": "proj.weight", "out_proj.bias": "proj.bias"}
    theirs.load_state_dict({name: ours.state_dict()[key] for name, key in names.items()})
    bias = torch.zeros(3, 9, 9)
    for i in range(9):
        for j in range(9):
            row, column = i // 3 - j // 3 + 2, i % 3 - j % 3 + 2
            bias[:, i, j] = ours.relative_position_bias_table[5 * row + column]
    x = torch.randn(4, 9, 12)
    expected, _ = theirs(x, x, x, attn_mask=bias.repeat(4, 1, 1))
    came = ours(x.reshape(2, 2, 9, 12), ours.bias(Windows(3).relative, torch.zeros(1, 9, 9)), [2])
    torch.testing.assert_close(came.reshape(4, 9, 12), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("each", [1, 4, 8, 9, 12, 15, 16, 17])  # features of a head: some are padded
@pytest.mark.parametrize("working_set", [1, 700, 2**18])  # window by window, pieces across kinds, all at once
def test_inference_in_pieces_is_the_same(each, working_set):
    layers = layers_of(each=each)
    for layer in layers.blocks:
        layer.working_set = working_set
    plan, x = plan_of(4, 3, 2, batch=2), torch.randn(2, 12, 8, 2 * each)
    expected = transformer_layers(x, layers, 4, relative_positions(4))
    for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with context():
            came = to_image(layers(x, plan), plan, SHIFTED).permute(0, 2, 3, 1)
        torch.testing.assert_close(came, expected, atol=2e-5, rtol=1e-4)


def test_layers_leave_their_input_alone():
    plan = plan_of(4, 2, 2)
    for enter in (IMAGE, WINDOWS):
        layers, x = layers_of(enter=enter), torch.randn(4, 1, 16, 8)
        before = x.clone()
        with torch.no_grad():
            layers(x, plan)
        assert torch.equal(x, before)


def test_unshifted_windows_do_not_meet():
    plan, x = plan_of(4, 2, 3), torch.randn(1, 8, 12, 8)
    changed = x.clone()
    changed[:, :4, :4] += 1
    for shifted in (False, True):
        layers = layers_of(shifted, depth=3)
        assert layers.orders == [WINDOWS, SHIFTED if shifted else WINDOWS, WINDOWS]
        with torch.no_grad():
            a, b = (to_image(layers(image, plan), plan, WINDOWS) for image in (x, changed))
        different = (a != b).any(dim=1)[0]
        assert different[:4, :4].all()
        different[:4, :4] = False
        assert different.any() == shifted


def test_orders_serve_training_after_inference_mode():
    windows._known_orders.cache_clear()
    layers, make, x = layers_of(), Windows(4), torch.randn(1, 8, 12, 8)
    with torch.inference_mode():
        layers(x, make(1, 8, 12))
    layers(x, make(1, 8, 12)).sum().backward()
    assert windows._known_orders.cache_info().hits == 1
    assert windows._known_orders.cache_info().maxsize < 100  # bounded
    twin = pickle.loads(pickle.dumps(copy.deepcopy(make)))
    assert torch.equal(twin(1, 8, 12).moves[1], make(1, 8, 12).moves[1])
    assert not make.state_dict()


def test_follows_its_weights():
    """Nothing made of them is kept."""
    layers, plan, x = layers_of(), plan_of(4, 2, 2), torch.randn(1, 8, 8, 8)
    with torch.no_grad():
        before = layers(x, plan)
        layers.blocks[1].attn.relative_position_bias_table.data.neg_()
        assert not torch.allclose(layers(x, plan), before)


def test_stochastic_depth():
    torch.manual_seed(0)
    layer = TransformerLayer(4, 2, 2, 2.0, drop_path=0.4)
    nn.init.ones_(layer.mlp.fc2.bias)  # every residual of the MLP is one
    nn.init.zeros_(layer.mlp.fc2.weight)
    for weights in (layer.attn.proj.weight, layer.attn.proj.bias):
        nn.init.zeros_(weights)
    plan, x = plan_of(2, 1, 2, batch=4000), torch.zeros(2, 4000, 4, 4)
    arguments = (plan.relative, plan.masks[WINDOWS], plan.counts[WINDOWS])
    added = layer(x, *arguments)
    assert torch.equal(added, added[:1, :, :1, :1].expand_as(added))  # an image is kept or left out as a whole
    assert added.unique().tolist() == [0.0, pytest.approx(1 / 0.6)]
    assert added.mean().item() == pytest.approx(1, abs=0.05)
    with torch.no_grad():
        assert torch.equal(layer.eval()(x.clone(), *arguments), torch.ones_like(x))


@given(counts=st.lists(st.integers(0, 30), min_size=1, max_size=4), most=st.integers(-1, 40))
def test_pieces(counts, most):
    result = pieces(counts, most)
    assert [sum(column) for column in zip(*result, strict=True)] == (counts if sum(counts) else [])
    sizes = [sum(piece) for piece in result]
    assert len(result) == -(-sum(counts) // max(most, 1))  # as few as can be
    assert not sizes or (max(sizes) <= max(most, 1) and max(sizes) - min(sizes) <= 1)
    flat = [kind for piece in result for kind, count in enumerate(piece) for _ in range(count)]
    assert flat == sorted(flat)  # windows keep their order


@given(height=st.integers(1, 20), width=st.integers(1, 20), window=st.integers(1, 9))
def test_padding_reflects_as_numpy_does(height, width, window):
    image = torch.rand(2, 1, height, width)
    more = [(0, 0), (0, 0), (0, -height % window), (0, -width % window)]
    expected = np.pad(image.numpy(), more, mode="reflect")
    assert np.array_equal(pad_to_windows(image, window).numpy(), expected)


def test_padding_reflects_as_torch_does():
    image = torch.rand(1, 2, 13, 18)
    assert torch.equal(pad_to_windows(image, 8), F.pad(image, (0, 6, 0, 3), mode="reflect"))
    assert torch.equal(pad_to_windows(image, 1), image)


STAGES = st.lists(st.one_of(st.just("plain"), st.just("shifted"), st.integers(0, 3)), max_size=8)


@given(window=st.integers(1, 6), stages=STAGES, tiles=st.integers(1, 3))
def test_reach_by_brute_force(window, stages, tiles):
    """Of every place of a long line, which places it depends on; a tile of several windows."""
    steps = [("convolution", s) if isinstance(s, int) else ("window", window // 2 * (s == "shifted")) for s in stages]
    far = 6 + sum(2 * window + s for _, s in steps)
    places = range(-far, far + tiles * window)
    seen = set(range(tiles * window))
    for kind, size in reversed(steps):
        if kind == "convolution":
            seen = {p for p in places if any(abs(p - s) <= size for s in seen)}
        else:
            seen = {p for p in places if (p - size) // window in {(s - size) // window for s in seen}}
    assert reach(window, steps) == max(-min(seen), max(seen) - tiles * window + 1)


def test_reach_counts_the_tail():
    assert reach(4, [("window", 0)], [(1, 1)]) == 4  # one pixel beyond the tile lies in the next window
    assert reach(4, [("convolution", 1)], [(1, 1), (2, 1), (4, 1)]) == 1 + 2


def test_plain_windows_and_back():
    x = torch.rand(2, 6, 9, 3)
    assert torch.equal(from_windows(to_windows(x, 3), 3, (2, 6, 9)), x)
