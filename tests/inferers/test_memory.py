"""When memory runs out: the same picture from smaller tiles and a warning, or an error; never a wrong picture."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
import torch

from medsr.errors import InputError, MedsrError
from medsr.inferers import SuperResolution, SuperResolutionInferer
from medsr.inferers.formed import NetworkInputs
from medsr.inferers.planning import choose_tiles
from medsr.inferers.tile_runner import is_out_of_memory
from medsr.inferers.tile_sources import make_source

CPU_MESSAGE = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
    "allocate 123 bytes. Error code 12 (Cannot allocate memory)"
)
ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "linux": RuntimeError(CPU_MESSAGE),
    "windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 123 bytes."),
    "cudnn": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "python": MemoryError(),
}


def above(limit, error, seen=None):
    """Forward pass of a device that holds `limit` voxels."""

    def forward(x, network):
        if x[0, 0].numel() > limit:
            raise error
        if seen is not None:
            seen.append(x[0, 0].numel())
        return network(x)

    return forward


def no_image_is_kept(inferer):
    """Whether nothing of a run can be taken for the result of another."""
    held = {**vars(inferer), **vars(inferer.runner)}
    return not any(isinstance(value, torch.Tensor | SuperResolution) for value in held.values())


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_tiles_are_halved_until_they_fit(made, noise, error):
    inner, lr = made.recnn(3), noise(1, 1, 12, 10, 8)
    expected = SuperResolutionInferer(2)(lr, inner)
    seen: list[int] = []
    inferer = SuperResolutionInferer(2, ensemble=True)
    ensemble = inferer.enlarge(lr, inner)
    halved = inferer.enlarge(lr, made.Wrapped(inner, above(3000, error, seen)))
    torch.testing.assert_close(halved.image, ensemble.image, atol=1e-5, rtol=0)
    torch.testing.assert_close(halved.deviation, ensemble.deviation, atol=1e-5, rtol=0)
    assert max(seen) <= 3000
    assert halved.tiles > 2
    assert halved.warnings[0] == "a tile of 7,680 voxels did not fit into memory and was halved"
    single = SuperResolutionInferer(2).enlarge(lr, made.Wrapped(inner, above(3000, error)))
    torch.testing.assert_close(single.image, expected, atol=1e-5, rtol=0)
    assert len(single.warnings) == len(set(single.warnings)) <= 3  # a size that failed is not tried again


def test_each_image_starts_afresh(made, noise):
    inner, lr = made.recnn(3), noise(1, 1, 12, 10, 8)
    limit = [3000]
    network = made.Wrapped(inner, lambda x, net: above(limit[0], MemoryError())(x, net))
    inferer = SuperResolutionInferer(2)
    assert inferer.enlarge(lr, network).warnings
    assert inferer.enlarge(lr, network).warnings  # every image has its own
    limit[0] = 10**6
    whole = inferer.enlarge(lr, network)
    assert (whole.tiles, whole.warnings) == (1, [])


def test_slices_are_halved_too(made, noise):
    inner, lr = made.fixed((2, 2)), noise(1, 1, 14, 12, 3)
    expected = SuperResolutionInferer(2)(lr, inner)
    halved = SuperResolutionInferer(2).enlarge(lr, made.Wrapped(inner, above(100, MemoryError())))
    torch.testing.assert_close(halved.image, expected, atol=1e-5, rtol=0)
    assert len(halved.warnings) == len(set(halved.warnings)) > 0


@pytest.mark.parametrize("halo", ["finite", "global"])
def test_gives_up_when_the_smallest_tile_does_not_fit(made, noise, halo):
    inner = made.recnn(3) if halo == "finite" else made.seeded(made.Global)
    network = made.Wrapped(inner, above(100, MemoryError()))
    with pytest.raises(MedsrError, match="even the smallest tile of this network") as error:
        SuperResolutionInferer(2)(noise(1, 1, 8, 8, 8), network)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("error", [RuntimeError("expected scalar type Float"), KeyError("x"), ValueError("no")])
def test_other_failures_stop_the_run(made, noise, error):
    calls: list[int] = []
    network = made.Wrapped(made.recnn(3), above(1500, error, calls))
    with pytest.raises(type(error)) as raised:
        SuperResolutionInferer(2, tile_size=(10, 16, 16))(noise(1, 1, 10, 8, 8), network)
    assert raised.value is error
    inferer = SuperResolutionInferer(2)
    with pytest.raises(type(error)):
        inferer(noise(1, 1, 10, 8, 8), network)
    assert no_image_is_kept(inferer)


def test_what_counts_as_out_of_memory():
    assert all(is_out_of_memory(error) for error in ERRORS.values())
    assert not is_out_of_memory(ValueError("out of memory"))
    assert not is_out_of_memory(RuntimeError("size mismatch"))


def test_plan_keeps_the_limit_or_refuses(made, noise):
    seen: list[int] = []
    network = made.Wrapped(made.recnn(3), above(10**9, MemoryError(), seen))  # 48 bytes per voxel
    lr = noise(1, 1, 30, 30, 30)
    SuperResolutionInferer(2, memory_mb=1)(lr, network)
    assert 1000 < max(seen) <= 2**20 / 48
    assert len(seen) > 10
    with pytest.raises(InputError, match=r"looks 40 voxels around, which takes \d+ MiB .* raise memory_mb"):
        SuperResolutionInferer(2, memory_mb=1)(lr, made.recnn(3, depth=40, features=4))


@pytest.mark.parametrize(
    ("tile_size", "memory_mb", "times", "name"),
    [(2, 1000, r"\d{4}", "tile_size"), (None, 2, r"\d{2,4}", "memory_mb"), (60, 1, None, ""), (None, 16, None, "")],
)
def test_says_when_tiles_are_wasteful(made, noise, tile_size, memory_mb, times, name):
    spec = made.recnn(3, depth=20, features=1).spec
    source = make_source(NetworkInputs(noise(1, 1, 30, 30, 30)), (Fraction(2),) * 3, spec)
    warnings = choose_tiles(source, spec, memory_mb, tile_size)[1]
    if times is None:
        assert warnings == []
    else:
        (warning,) = warnings
        assert re.fullmatch(
            rf"the tiles are so small that every voxel is computed {times} times; raise {name} to be faster", warning
        )


def test_a_batch_shares_the_limit(made, noise):
    seen: list[int] = []
    network = made.Wrapped(made.recnn(3), above(10**9, MemoryError(), seen))
    SuperResolutionInferer(2, memory_mb=1)(noise(4, 1, 16, 16, 16), network)
    assert max(seen) * 4 <= 2**20 / 48


def test_a_result_too_large_for_the_machine(made, noise, monkeypatch):
    def refuse(*args, **keywords):
        raise RuntimeError(CPU_MESSAGE)

    monkeypatch.setattr("medsr.inferers.super_resolution.torch.empty", refuse)
    inferer = SuperResolutionInferer(2)
    with pytest.raises(InputError, match=r"a result of \(1, 1, 8, 8, 8\) takes 0\.0 GiB, more than is free on cpu"):
        inferer._empty((1, 1, 8, 8, 8))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite_are_refused(made, noise, value):
    calls = []

    def spoiled(x, network):
        calls.append(x.shape)
        y = network(x)
        if len(calls) == 2:  # the last tile
            y[0, 0, -1, -1, -1] = value
        return y

    inferer = SuperResolutionInferer(2, tile_size=(12, 16, 16))
    inferer(noise(1, 1, 4, 4, 4), made.recnn(3))
    with pytest.raises(InputError, match="not finite; check its weights and the precision"):
        inferer(noise(1, 1, 10, 4, 8), made.Wrapped(made.recnn(3), spoiled))
    assert len(calls) == 2
    assert no_image_is_kept(inferer)  # nor is the image before it left there


@pytest.mark.parametrize(
    ("wrong", "came"),
    [
        (lambda y: y[..., :-1], r"\(2, 1, 8, 8, 7\)"),
        (lambda y: y[:, 0], r"\(2, 8, 8, 8\)"),
        (lambda y: y[:1], r"\(1, 1, 8, 8, 8\)"),  # would be broadcast over the batch
        (lambda y: (y, y), "tuple"),
        (lambda y: torch.cat([y, y], dim=1), r"\(2, 2, 8, 8, 8\)"),
    ],
)
def test_outputs_of_another_size_are_refused(made, noise, wrong, came):
    network = made.Wrapped(made.recnn(3), lambda x, net: wrong(net(x)))
    with pytest.raises(InputError, match=rf"returned {came} for .* its spec says \(2, 1, 8, 8, 8\)"):
        SuperResolutionInferer(2)(noise(2, 1, 4, 4, 4), network)
