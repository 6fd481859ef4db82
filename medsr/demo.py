"""The demonstration behind `make demo`: reduce a real brain, enlarge it by the default bundle, and compare.

    python -m medsr.demo prepare --output demo_output
    python -m monai.bundle run ... --dataset_dir demo_output/lr --output_dir demo_output/sr
    python -m medsr.demo report --output demo_output

The brain is the MNI152 T1 template (average of 152 adults) that ships inside nilearn, so nothing is downloaded.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor

from medsr.bundle import DEFAULT_BUNDLE
from medsr.data.readers import read_volume
from medsr.data.writers import write_json_atomic, write_volume
from medsr.errors import InputError, MedsrError
from medsr.geometry import Grid, as_scale, divisible_shape, format_scale
from medsr.interpolation import resize
from medsr.metrics import CaseMetrics, Row, format_table, summarise
from medsr.outputs import draw_preview
from medsr.transforms import SimulateLowResolutiond

_CASE = "mni152_T1w"
_MARGIN = 6  # voxels kept around the brain


def mni152() -> tuple[np.ndarray, Grid]:
    """Return the brain of the MNI152 T1 template at 1 mm, cropped, as (X, Y, Z) float32, and its grid.

    Raises:
        MedsrError: If nilearn is not installed.
    """
    try:
        from nilearn.datasets import load_mni152_template
    except ImportError:
        raise MedsrError("the demo needs nilearn, which is not installed; run: pip install 'medsr[demo]'") from None
    image = load_mni152_template(resolution=1)
    data = np.asarray(image.dataobj, dtype=np.float32)
    inside = np.argwhere(data > 0.05 * data.max())
    start = np.maximum(inside.min(axis=0) - _MARGIN, 0)
    stop = np.minimum(inside.max(axis=0) + 1 + _MARGIN, data.shape)
    shape = divisible_shape(tuple(stop - start), as_scale(2, 3))
    window = tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))
    return 1000 * data[window], Grid(data.shape, image.affine).cropped(start.tolist(), shape)


def prepare(output: Path) -> int:
    """Write the template into `hr/`, and its image blurred and halved by the bundle's degradation into `lr/`.

    Args:
        output: The folder of the demonstration.

    Returns:
        The exit status 0.

    Raises:
        MedsrError: If nilearn is not installed, or a file cannot be written.
    """
    data, grid = mni152()
    hr = MetaTensor(torch.as_tensor(data)[None], affine=torch.as_tensor(grid.affine))
    pair = SimulateLowResolutiond(degradation="gaussian-blur", scale=2)({"label": hr})
    for key, folder in (("label", "hr"), ("image", "lr")):
        path = output / folder / f"{_CASE}.nii.gz"
        write_volume(path, pair[key].numpy()[0], pair[key].affine.numpy(), like={"sform_code": 4})
        print(f"{path}: {'x'.join(map(str, pair[key].shape[1:]))} voxels")
    return 0


def report(output: Path) -> int:
    """Compare the bundle's result and cubic-spline interpolation with the HR image; write a table and a picture.

    Args:
        output: The folder of the demonstration.

    Returns:
        The exit status 0.

    Raises:
        MedsrError: If a file cannot be read or written, or the SR grid is not the HR grid.
    """
    volumes = {}
    for name, file in (("LR", f"lr/{_CASE}.nii.gz"), ("SR", f"sr/{_CASE}_sr.nii.gz"), ("HR", f"hr/{_CASE}.nii.gz")):
        volume = read_volume(output / file)
        volumes[name] = (volume.data, Grid(volume.data.shape, volume.affine))
    (lr, lr_grid), (sr, sr_grid), (hr, hr_grid) = volumes["LR"], volumes["SR"], volumes["HR"]
    distance = sr_grid.distance(hr_grid)
    if distance > 1e-3:
        raise InputError(f"the SR grid is {distance:g} mm from the HR grid; run the bundle with --scale '[2,2,2]'")
    scale = as_scale(2, 3)
    interpolated = resize(torch.as_tensor(lr)[None, None], scale, new_shape=hr.shape)[0, 0].numpy()
    measure = CaseMetrics("volume")
    rows = [
        Row(_CASE, scale, method, measure(torch.as_tensor(image)[None], torch.as_tensor(hr)[None]))
        for method, image in ((DEFAULT_BUNDLE, sr), ("cubic spline", interpolated))
    ]
    groups = summarise(rows, baseline="cubic spline")
    print(format_table(groups))
    write_json_atomic(
        output / "metrics.json",
        {
            "scale": format_scale(scale),
            "field_of_view_error_mm": distance,
            "protocol": measure.protocol.to_dict(),
            "methods": {row.method: row.values for row in rows},
        },
    )
    draw_preview(
        output / "preview.png",
        {
            "LR": (lr, lr_grid),
            "cubic spline": (interpolated, hr_grid),
            f"SR ({DEFAULT_BUNDLE})": (sr, sr_grid),
            "HR": (hr, hr_grid),
        },
        error=(np.abs(sr - hr), hr_grid),
    )
    print(f"SR volume: {output / 'sr' / f'{_CASE}_sr.nii.gz'} (record beside it)")
    print(f"preview:   {output / 'preview.png'}\nnumbers:   {output / 'metrics.json'}")
    return 0


def main() -> int:
    """Run one step of the demonstration; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m medsr.demo", description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("prepare", "report"), help="step to run")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        return prepare(arguments.output) if arguments.step == "prepare" else report(arguments.output)
    except MedsrError as error:
        print(f"medsr: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
