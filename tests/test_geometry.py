"""The grid rule against a linear function of world coordinates, SimpleITK and brute force."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given
from hypothesis import strategies as st

from medsr import geometry
from medsr.data.volume import check_affine
from medsr.errors import GridError, InputError
from medsr.geometry import Grid, as_scale, exact_scale
from medsr.interpolation import resize

SCALES = [1, 1.1, 1.5, 2, 2.3, 2.7, 3, 4, (1, 1, 5), (2.3, 1, 1.5), (1.1, 2.7, 4)]


def _affines():
    rng = np.random.default_rng(3)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    shear = np.eye(3)
    shear[1, 2] = 0.35  # gantry tilt of about 19 degrees
    directions = {
        "axis-aligned": np.eye(3),
        "oblique": turn,
        "left-handed": turn @ np.diag([-1, 1, 1]),
        "permuted": np.eye(3)[[2, 0, 1]] * [1, -1, -1],
        "sheared": turn @ shear,
    }
    for name, columns in directions.items():
        affine = np.eye(4)
        affine[:3, :3] = columns * [0.8, 1.3, 4.1]
        affine[:3, 3] = [-91.2, 33.7, 140.9]
        yield pytest.param(affine, id=name)


AFFINES = list(_affines())
any_affine = pytest.mark.parametrize("affine", AFFINES)
any_scale = pytest.mark.parametrize("scale", SCALES, ids=str)
fractions = st.builds(Fraction, st.integers(10, 60), st.integers(1, 10)).filter(lambda s: 1 <= s <= 8)


def world(affine, shape):
    """World coordinates of every voxel, (*shape, 3), written out independently of the package."""
    i, j, k = np.indices(shape)
    return np.stack([affine[r, 0] * i + affine[r, 1] * j + affine[r, 2] * k + affine[r, 3] for r in range(3)], axis=-1)


class TestGridRule:
    @any_affine
    @any_scale
    def test_linear_function_of_world_comes_back(self, affine, scale):
        grid = Grid((7, 6, 5), affine)
        scales = as_scale(scale, 3, grid.shape)
        gradient = np.array([0.3, -0.7, 1.1])
        lr = world(affine, grid.shape) @ gradient - 5
        target = grid.enlarged(scales)
        sr = resize(torch.from_numpy(lr)[None, None], scales, kernel="linear")[0, 0].numpy()
        assert sr.shape == target.shape
        expected = world(target.affine, target.shape) @ gradient - 5
        inside = []
        for n, m, s in zip(grid.shape, target.shape, scales, strict=True):
            source = (np.arange(m) + 0.5) / float(s) - 0.5
            inside.append(np.flatnonzero((source >= -1e-9) & (source <= n - 1 + 1e-9)))
        np.testing.assert_allclose(sr[np.ix_(*inside)], expected[np.ix_(*inside)], atol=1e-9)

    @any_affine
    @any_scale
    def test_field_of_view_is_kept(self, affine, scale):
        grid = Grid((10, 7, 5), affine)
        scales = as_scale(scale, 3)
        target = grid.enlarged(scales)
        before, after = grid.edges(), target.edges()
        np.testing.assert_allclose(after[0, 0, 0], before[0, 0, 0], atol=1e-6)
        for axis, (n, s) in enumerate(zip(grid.shape, scales, strict=True)):
            corner = tuple(int(a == axis) for a in range(3))
            moved = np.linalg.norm(after[corner] - before[corner])
            assert moved <= (1e-6 if (n * s).denominator == 1 else target.spacing[axis] / 2 + 1e-6)
        np.testing.assert_allclose(target.spacing, np.array(grid.spacing) / np.array(scales, float), rtol=1e-12)

    @any_affine
    @any_scale
    def test_agrees_with_simpleitk(self, affine, scale):
        grid = Grid((6, 5, 4), affine)
        scales = as_scale(scale, 3)
        to_lps = np.diag([-1.0, -1, 1, 1])
        lps = to_lps @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        image = SimpleITK.Image(grid.shape, SimpleITK.sitkUInt8)
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        target = grid.enlarged(scales)
        for corner in np.ndindex(2, 2, 2):
            index = np.array(corner) * (np.array(target.shape) - 1)
            source = [float(geometry.source_positions(i, s)) for i, s in zip(index, scales, strict=True)]
            point = np.array(image.TransformContinuousIndexToPhysicalPoint(source))
            np.testing.assert_allclose(to_lps[:3, :3] @ point, (target.affine @ [*index, 1])[:3], atol=1e-6)

    @any_affine
    @any_scale
    def test_reduction_and_enlargement_are_inverse(self, affine, scale):
        scales = as_scale(scale, 3)
        shape = geometry.divisible_shape((61, 58, 47), scales)
        hr = Grid(shape, affine)
        lr = hr.reduced(scales)
        assert lr.enlarged(scales).distance(hr) < 1e-9
        assert all(n * s == m for n, m, s in zip(lr.shape, shape, scales, strict=True))

    def test_crop_keeps_voxels_where_they_are(self, oblique_affine):
        grid = Grid((9, 8, 7), oblique_affine)
        part = grid.cropped((2, 3, 1), (4, 5, 6))
        np.testing.assert_allclose(
            world(part.affine, part.shape), world(grid.affine, grid.shape)[2:6, 3:8, 1:7], atol=1e-12
        )

    @given(size=st.integers(1, 40), scale=fractions)
    def test_aligned_crops_share_the_grid(self, size, scale):
        """A crop at a multiple of the lattice step, enlarged, is a crop of the enlarged image."""
        q, p = geometry.lattice_step(scale)
        start = size * q
        whole = geometry.scaled_affine(np.eye(4), (scale,) * 3)
        part = geometry.scaled_affine(geometry.shifted_affine(np.eye(4), [start] * 3), (scale,) * 3)
        np.testing.assert_allclose(part, geometry.shifted_affine(whole, [size * p] * 3), atol=1e-9)

    def test_2d_affine_leaves_the_third_axis(self):
        affine = geometry.scaled_affine(np.diag([1.0, 2.0, 3.0, 1.0]), as_scale(2, 2))
        np.testing.assert_array_equal(affine, [[0.5, 0, 0, -0.25], [0, 1, 0, -0.5], [0, 0, 3, 0], [0, 0, 0, 1]])

    @given(scale=fractions, index=st.integers(0, 100_000))
    def test_source_position_is_rounded_once(self, scale, index):
        exact = (index + Fraction(1, 2)) / scale - Fraction(1, 2)
        assert geometry.source_positions(index, scale) == float(exact)


class TestScale:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (2, Fraction(2)),
            (2.3, Fraction(23, 10)),
            (2.7, Fraction(27, 10)),
            (1.1, Fraction(11, 10)),
            (np.float32(2.3), Fraction(23, 10)),
            (np.int64(3), Fraction(3)),
            (5 / 3, Fraction(5, 3)),
            (4.8 / 0.9, Fraction(16, 3)),
            ("9/4", Fraction(9, 4)),
            ("2.3000001", Fraction(23000001, 10**7)),
            (Fraction(7, 3), Fraction(7, 3)),
            (1.0000000001, Fraction(1)),
        ],
    )
    def test_exact_scale(self, value, expected):
        assert exact_scale(value) == expected

    @given(value=st.floats(0.05, 20), size=st.none() | st.integers(1, 2000))
    def test_float_becomes_the_simplest_fraction_that_keeps_the_field_of_view(self, value, size):
        scale = exact_scale(value, size)
        n = size or 1024
        assert abs(scale - Fraction(value)) * n < Fraction(1, 1000)
        tolerance = Fraction(1, 1000) / n * Fraction(999, 1000)
        for denominator in range(1, min(scale.denominator, 300)):
            nearest = Fraction(round(Fraction(value) * denominator), denominator)
            assert nearest <= 0 or abs(nearest - Fraction(value)) > tolerance or nearest < Fraction(value) / 2

    @given(value=st.fractions(min_value=Fraction(1, 20), max_value=20))
    def test_fractions_and_their_text_are_literal(self, value):
        assert exact_scale(value) == exact_scale(str(value)) == value

    @given(scale=fractions)
    def test_floats_of_simple_fractions_are_recognised(self, scale):
        assert exact_scale(float(scale)) == scale

    @pytest.mark.parametrize("value", [0, -1, 0.0, "0", "-2", float("nan"), float("inf"), "two", "1/0", None])
    def test_not_a_scale(self, value):
        with pytest.raises(GridError, match="scale must be") as error:
            exact_scale(value)
        assert "\n" not in str(error.value)

    def test_one_or_one_per_axis(self):
        assert as_scale(2, 3) == as_scale("2", 3) == as_scale([2, 2.0, "2"], 3) == (2, 2, 2)
        assert as_scale(np.array(2.0), 2) == as_scale(np.float32(2), 2) == as_scale(torch.tensor([2, 2]), 2)
        for wrong, came in (((2, 2), "got 2"), (None, "got None"), (object(), "got <object")):
            with pytest.raises(GridError, match=rf"one per axis \(3\), {came}"):
                as_scale(wrong, 3)
        with pytest.raises(GridError, match=r"3 axes for 3 scales, got size \[4, 5\]"):
            as_scale(2, 3, (4, 5))

    def test_fractions_hold_plain_integers(self):
        assert type(exact_scale(np.int64(3)).numerator) is int  # numpy's would overflow

    def test_format(self):
        assert geometry.format_scale(as_scale((2, 2.5, "7/3"), 3)) == "2x2.5x7/3"

    def test_enlarging(self):
        assert geometry.check_enlarging(as_scale((1, 2), 2)) == (1, 2)
        with pytest.raises(GridError, match=r"at least 1 on every axis, got 2x0\.5"):
            geometry.check_enlarging(as_scale((2, 0.5), 2))

    def test_scale_for_spacing(self):
        shape = (256, 256, 30)
        assert geometry.scale_for_spacing((1, 1, 5), 1.0, shape) == (1, 1, 5)
        assert geometry.scale_for_spacing((0.9, 0.9, 5), (0.9, 0.45, 2), shape) == (1, 2, Fraction(5, 2))
        rounded = tuple(float(np.float32(d)) for d in (0.9, 0.9, 4.8))  # as a NIfTI header has it
        assert geometry.scale_for_spacing(rounded, 0.9, shape) == (1, 1, Fraction(16, 3))
        assert geometry.scale_for_spacing(rounded, np.float32(0.9), shape) == (1, 1, Fraction(16, 3))
        with pytest.raises(GridError, match="3 axes for 3 spacings, got size"):
            geometry.scale_for_spacing((1, 1, 5), 1.0, (10, 10))

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            (2.0, "coarser than the input's 1x1x5 mm"),
            ((1, 1, 6), "coarser"),
            ((1, 1), "one per axis"),
            (0.0, "positive number of mm"),
            ((1, 1, -1), "positive number of mm"),
            (float("nan"), "positive number of mm"),
            ((1, 1, float("inf")), "positive number of mm"),
            (None, "one per axis"),
            ((1, 1, "thin"), "positive number of mm"),
        ],
    )
    def test_bad_target_spacing(self, target, message):
        with pytest.raises(GridError, match=message) as error:
            geometry.scale_for_spacing((1, 1, 5), target, (10, 10, 10))
        assert "\n" not in str(error.value)


class TestSizes:
    def test_output_shape(self):
        assert geometry.output_shape((10, 7, 1), as_scale((2.3, 1.5, 4), 3)) == (23, 10, 4)
        assert geometry.output_shape((1,), as_scale(0.1, 1)) == (1,)

    @given(size=st.integers(1, 300), scale=fractions)
    def test_output_shape_is_within_half_a_voxel(self, size, scale):
        (m,) = geometry.output_shape((size,), (scale,))
        assert abs(m - size * scale) <= Fraction(1, 2)

    @given(size=st.integers(1, 300), scale=fractions)
    def test_divisible_shape_is_the_largest(self, size, scale):
        fitting = [n for n in range(1, size + 1) if (n / scale).denominator == 1]
        if fitting:
            assert geometry.divisible_shape((size,), (scale,)) == (fitting[-1],)
        else:
            with pytest.raises(GridError, match="too small"):
                geometry.divisible_shape((size,), (scale,))

    @given(data=st.data(), size=st.integers(1, 60), scale=fractions, halo=st.integers(0, 9))
    def test_input_range_covers_what_is_needed(self, data, size, scale, halo):
        (m,) = geometry.output_shape((size,), (scale,))
        low = data.draw(st.integers(0, m - 1))
        high = data.draw(st.integers(low + 1, m))
        align = data.draw(st.integers(1, 8))
        start, stop = geometry.input_range(low, high, scale, size, halo, align)
        assert 0 <= start < stop <= size
        first, last = floor(low / scale), ceil(high / scale) - 1  # voxels under the two ends of the output
        assert start <= max(0, first - halo)
        assert stop >= min(size, last + 1 + halo)
        assert start % align == 0
        assert stop % align == 0 or stop == size
        assert start > first - halo - align
        assert stop < last + 1 + halo + align
        if halo:  # both neighbours of each output centre, for interpolation
            for i in range(low, high):
                source = floor(geometry.source_positions(i, scale))
                assert start <= min(max(source, 0), size - 1) < stop
                assert start <= min(source + 1, size - 1) < stop


class TestAlignments:
    @given(
        lr=st.integers(2, 40),
        scale=st.builds(Fraction, st.integers(4, 30), st.integers(1, 4)).filter(lambda s: s > 1),
    )
    def test_what_each_one_joins(self, lr, scale):
        hr = int(lr * scale)

        def ends(alignment):
            start, step = geometry.sampling_of(alignment, hr, lr, scale)
            return start, start + (lr - 1) * step, step

        first, last, _ = ends("corner")
        assert (first, last) == (0, hr - 1)
        first, last, step = ends("edges")
        assert (first - step / 2, last + step / 2) == (Fraction(-1, 2), hr - Fraction(1, 2))
        first, _, step = ends("first-voxel")
        assert (first, step) == (0, scale)
        first, _, step = ends("half-pixel")
        assert (first - step / 2, step) == (Fraction(-1, 2), scale)

    def test_corner_of_one_voxel(self):
        assert geometry.sampling_of("corner", 4, 1, Fraction(4)) == (0, 4)

    def test_unknown(self):
        with pytest.raises(GridError, match="an alignment is one of half-pixel, corner, edges, first-voxel"):
            geometry.sampling_of("centre", 4, 2, Fraction(2))

    @any_affine
    def test_affine_of_half_pixel_sampling_is_that_of_the_grid_rule(self, affine):
        scales = as_scale((2, 2.3, 1), 3)
        hr = Grid((10, 46, 5), affine)
        sampling = [geometry.sampling_of("half-pixel", n, 0, s) for n, s in zip(hr.shape, scales, strict=True)]
        np.testing.assert_allclose(geometry.sampled_affine(affine, sampling), hr.reduced(scales).affine, atol=1e-12)


class TestGrid:
    @pytest.mark.parametrize(
        ("shape", "affine", "message"),
        [
            ((4, 4), np.eye(4), "3D image"),
            ((4, 0, 4), np.eye(4), "at least one voxel"),
            ((4, 4, 4), np.eye(3), "finite 4x4"),
            ((4, 4, 4), np.diag([1, 1, np.nan, 1]), "finite 4x4"),
            ((4, 4, 4), np.diag([1.0, 0, 1, 1]), "degenerate"),
            ((4, 4, 4), np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "degenerate"),
        ],
    )
    def test_unusable(self, shape, affine, message):
        with pytest.raises(GridError, match=message) as error:
            Grid(shape, affine)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(("angle", "usable"), [(2e-4, True), (5e-5, False), (1e-7, False)])
    def test_one_rule_of_axes_in_one_plane(self, angle, usable, tmp_path):
        """What a reader refuses no grid takes, and the reverse: the least volume of unit axes is 1e-4."""
        affine = np.eye(4)
        affine[:3, 1] = np.cos(angle), np.sin(angle), 0
        affine[:3, :3] *= 0.03  # whatever the size of voxels
        path = tmp_path / "image.nii"
        if usable:
            assert np.array_equal(check_affine(affine, path, "sform"), Grid((4, 4, 4), affine).affine)
            return
        with pytest.raises(GridError) as refused:
            Grid((4, 4, 4), affine)
        with pytest.raises(InputError) as unread:
            check_affine(affine, path, "affine")
        assert str(unread.value) == f"{path}: {refused.value}"

    def test_small_voxels_are_not_degenerate(self):
        """Micrometres, as in microscopy."""
        assert Grid((4, 4, 1), np.diag([2.5e-4, 2.5e-4, 1e-3, 1])).spacing == (2.5e-4, 2.5e-4, 1e-3)

    def test_indivisible(self):
        with pytest.raises(GridError, match=r"crop to \(6, 8, 9\)"):
            Grid((7, 8, 9), np.eye(4)).reduced(as_scale((2, 4, 1), 3))

    def test_distance(self):
        grid = Grid((4, 5, 6), np.eye(4))
        moved = np.eye(4)
        moved[:3, 3] = [0.3, 0, 0.4]
        assert grid.distance(Grid((4, 5, 6), moved)) == pytest.approx(0.5)
        assert grid.distance(Grid((4, 5, 7), np.eye(4))) == np.inf
        stretched = Grid((4, 5, 6), np.diag([1.1, 1, 1, 1]))
        assert grid.distance(stretched) == pytest.approx(0.35)  # the far face

    @any_affine
    def test_sheared(self, affine, request):
        assert Grid((3, 3, 3), affine).is_sheared == ("sheared" in request.node.callspec.id)

    def test_shares_no_memory_with_the_affine_it_was_given(self):
        affine = np.eye(4)
        grid = Grid((3, 3, 3), affine)
        affine[0, 3] = 9
        assert grid.affine[0, 3] == 0


def test_letters_of_the_axes_are_those_of_nibabel() -> None:
    """The independent source is nibabel's aff2axcodes, on oblique, flipped and permuted axes."""
    rng = np.random.default_rng(7)
    found = set()
    for _ in range(300):
        affine = np.eye(4)
        affine[:3, :3] = rng.normal(size=(3, 3))
        found.add(geometry.axis_codes(affine))
        assert geometry.axis_codes(affine) == "".join(nib.orientations.aff2axcodes(affine))
    assert len(found) == 48  # every orientation


class TestAnatomicalAxis:
    @pytest.mark.parametrize(
        ("codes", "axes"),
        [
            ("RAS", {"sagittal": 0, "coronal": 1, "axial": 2}),
            ("LPI", {"sagittal": 0, "coronal": 1, "axial": 2}),
            ("PIR", {"coronal": 0, "axial": 1, "sagittal": 2}),
            ("SRA", {"axial": 0, "sagittal": 1, "coronal": 2}),
        ],
    )
    def test_axes(self, codes, axes):
        affine = np.eye(4)
        affine[:3, :3] = 0
        for axis, code in enumerate(codes):
            row = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}[code]
            affine[row, axis] = 1.7 if code in "RAS" else -1.7
        affine[:3, :3] += 0.2  # oblique
        for plane, axis in axes.items():
            assert geometry.anatomical_axis(affine, plane) == axis

    def test_unknown_plane(self):
        with pytest.raises(GridError, match="axial"):
            geometry.anatomical_axis(np.eye(4), "transverse")
