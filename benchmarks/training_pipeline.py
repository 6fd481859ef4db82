"""Rate of a bundle's training against the bare steps of its network; `python -m benchmarks.training_pipeline --help`.

The training is that of train.json, from files to the optimiser's step. A bare step is the forward pass, the backward
pass and the optimiser's step on a batch that is there already, in the same precision and layout. Both happen in one
run, a bare step after each step of the training, so that other load slows both; where a thread prepares batches ahead,
the bare steps follow at the end, because it would else work during them. The images are synthetic unless a folder of
data is given.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from scipy import ndimage

from benchmarks import machine
from benchmarks.measure import synchronize
from medsr.runtime import keep_freed_memory

BAR = 0.85  # of the rate of bare steps
BUNDLES = Path(__file__).parents[1] / "bundles"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_pipeline", description=__doc__)
    parser.add_argument("bundle", help="such as recnn3d")
    parser.add_argument("--steps", type=int, default=100, help="of the training (100)")
    parser.add_argument("--dataset_dir", type=Path, help="folder of the data; synthetic volumes by default")
    parser.add_argument("--size", type=int, default=128, help="voxels along a side of synthetic volumes (128)")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument(
        "--set", nargs=2, action="append", default=[], metavar=("KEY", "JSON"), help="an entry of train.json"
    )
    return parser.parse_args(arguments)


def volumes(folder: Path, size: int, count: int = 3) -> list[dict[str, Any]]:
    """Return the items of smooth random volumes of `size` voxels along every axis, written into a folder."""
    random, items = np.random.default_rng(0), []
    for k in range(count):
        path = folder / f"{k}.nii"
        image = ndimage.gaussian_filter(random.normal(size=(size,) * 3).astype(np.float32), 2)
        nib.save(nib.Nifti1Image(1000 * (image - image.min()), np.eye(4)), path)
        items.append({"label": str(path), "weight": 1.0})
    return items


class Watch:
    """Times the steps of a trainer, and bare steps on its batches.

    Attributes:
        fetching: The seconds that each batch took to come.
        training: The seconds that each step took, handlers included.
        bare: The seconds that each bare step took.
    """

    def __init__(self, trainer: Any, beside: bool) -> None:
        self.trainer, self.beside = trainer, beside
        self.fetching: list[float] = []
        self.training: list[float] = []
        self.bare: list[float] = []
        self.batch: Any = None
        self.batches: list[Any] = []
        trainer.add_event_handler(Events.STARTED, self._attach)

    def _attach(self, engine: Engine) -> None:
        """Register after all others, also after what is measured at the first batch."""
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._mark)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._note, self.fetching)
        engine.add_event_handler(Events.ITERATION_STARTED, self._mark)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._completed)

    def _mark(self, engine: Any) -> None:
        self.batch = engine.state.batch  # MONAI takes it apart after the step
        synchronize(engine.state.device)
        self.started = time.perf_counter()

    def _note(self, engine: Any, seconds: list[float]) -> None:
        synchronize(engine.state.device)
        seconds.append(time.perf_counter() - self.started)

    def _completed(self, engine: Any) -> None:
        self._note(engine, self.training)
        if self.beside:
            self.step(self.batch)
        else:
            self.batches.append(self.batch)

    def step(self, batch: Any) -> None:
        """Run and time a bare step on a batch."""
        trainer, device = self.trainer, self.trainer.state.device
        prepared = trainer.prepare_batch(batch, device, trainer.non_blocking, **trainer.to_kwargs)
        lr, hr, args, kwargs = prepared if len(prepared) == 4 else (*prepared, (), {})
        scaler = trainer.scaler if trainer.amp else None
        self._mark(trainer)
        trainer.optimizer.zero_grad(set_to_none=True)
        loss = trainer.loss_function(trainer.inferer(lr, trainer.network, *args, **kwargs), hr)
        if scaler is None:
            loss.backward()
            trainer.optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(trainer.optimizer)
            scaler.update()
        self._note(trainer, self.bare)

    def result(self) -> dict[str, float]:
        """Return the mean seconds of a step; the first steps, which warm up, are left out."""
        for batch in self.batches:
            self.step(batch)
        fetching, training, bare = (
            float(np.mean(values)) for values in (self.fetching, self.training[1:], self.bare[1:])
        )
        return {
            "fetching": fetching,
            "training": training,
            "bare": bare,
            "share": bare / (fetching + training),
        }


def trainer_of(options: argparse.Namespace, folder: Path) -> tuple[Any, Any]:
    """Return the trainer of a bundle's train.json and its loader, for one epoch without validation."""
    parser = ConfigParser()
    parser.read_config(BUNDLES / options.bundle / "configs" / "train.json")
    parser["bundle_root"], parser["output_dir"] = str(BUNDLES / options.bundle), str(folder / "run")
    parser["max_epochs"], parser["steps_per_epoch"], parser["val_interval"] = 1, options.steps, 1000
    if options.dataset_dir is None:
        items = volumes(folder, options.size)
        parser["train"]["dataset"]["data"], parser["validate"]["items"] = items, items[:1]
    else:
        parser["dataset_dir"] = str(options.dataset_dir)
    for key, value in options.set:
        parser[key] = json.loads(value)
    return parser.get_parsed_content("train#trainer"), parser.get_parsed_content("train#dataloader")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rates and return 0 if the training reaches the bar, 1 if not."""
    options = parse(arguments)
    if options.steps < 2:
        print("expected at least 2 steps, of which the first warms up", file=sys.stderr)
        return 2
    keep_freed_memory()  # as in a training
    torch.manual_seed(0)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        trainer, loader = trainer_of(options, Path(folder))
        watch = Watch(trainer, beside=not getattr(loader, "ahead", 0))
        trainer.run()
        result = watch.result()
    device = machine.describe(trainer.state.device)
    print(f"{device['processor']}, {device['threads']} threads, load {device['load']}, torch {torch.__version__}")
    print(
        f"{options.bundle}, {options.steps} steps, {trainer.inferer.choice}: batch {result['fetching']:.4f} s, "
        f"step {result['training']:.4f} s, bare step {result['bare']:.4f} s; "
        f"the training runs at {result['share']:.0%} of bare steps (bar {BAR:.0%})"
    )
    return 0 if result["share"] >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
