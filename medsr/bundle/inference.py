"""The parts of inference that bundles share: their configs name these parts, and add only what differs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from monai.config import KeysCollection
from monai.data import DataLoader, Dataset, decollate_batch
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from monai.transforms import AsDiscreted, Compose, LoadImaged
from torch import nn

from medsr.data.batches import collate_images
from medsr.engines import StrictCheckpointLoader
from medsr.outputs import SaveImageWithRecordd, SaveLabelMapd
from medsr.transforms import NormalizeIntensityRecordedd, RestoreIntensityd, SetSuperResolutionGridd

READER = "medsr.data.readers.VolumeReader"  # MONAI imports it by its name


class VolumePreprocessing(Compose):
    """The transform that reads volumes of any supported format as (C, X, Y, Z) and normalises them to about [0, 1].

    Args:
        keys: The keys of the images. Only the first one is normalised, so that label maps stay as they are.
        series: The SeriesInstanceUID to read from DICOM inputs that hold several.
        method: The method of normalisation; see `medsr.transforms.NormalizeIntensityRecordedd`.
    """

    def __init__(self, keys: KeysCollection = "image", series: str | None = None, method: str = "percentile") -> None:
        load = LoadImaged(keys, reader=READER, series=series, ensure_channel_first=True)
        super().__init__([load, NormalizeIntensityRecordedd(load.keys[0], method=method)])


class ImageLoader(DataLoader):
    """The loader of the images of a dataset, one by one, or in batches where they have the same size.

    Args:
        dataset: The dataset of items with an `image`.
        batch_size: The number of images in a batch; each keeps its own metadata.
        others: The further arguments of MONAI's data loader.
    """

    def __init__(self, dataset: Dataset, batch_size: int = 1, **others: Any) -> None:
        super().__init__(dataset, batch_size=batch_size, **{"collate_fn": collate_images, **others})


class SuperResolutionPostprocessing(Compose):
    """The transform that gives the SR image its units and grid, and writes it with its record.

    See `SaveImageWithRecordd`.

    Args:
        output_dir: The folder of the results.
        bundle_root: The folder of the bundle.
        device: The device on which the network runs, for the record.
        weights: The file of the network's weights, for the record.
        saving: The further arguments of `SaveImageWithRecordd`: output_ext, output_postfix, preview, consistency, bids.
    """

    def __init__(
        self,
        output_dir: str | Path,
        bundle_root: str | Path,
        device: str | torch.device,
        weights: str | Path,
        **saving: Any,
    ) -> None:
        settings = {"device": str(device), "seed": 0}
        save = SaveImageWithRecordd(output_dir, bundle_root, settings=settings, weights=weights, **saving)
        restore = RestoreIntensityd("pred", reference="image")
        super().__init__([restore, SetSuperResolutionGridd("pred", reference="image"), save])


class LabelMapPostprocessing(Compose):
    """The transform that turns the logits of a segmentation network into a label map and writes it.

    See `SaveLabelMapd`.

    Args:
        output_dir: The folder of the results.
        saving: The further arguments of `SaveLabelMapd`: output_ext, output_postfix.
    """

    def __init__(self, output_dir: str | Path, **saving: Any) -> None:
        super().__init__([AsDiscreted("pred", argmax=True), SaveLabelMapd("pred", output_dir, **saving)])


class Inference(SupervisedEvaluator):
    """An evaluator that runs a network over a dataset: it loads the weights strictly and shows a progress bar.

    It serves `inference.json` and `evaluate.json`. The names of the arguments are those of MONAI's evaluator, in which
    MONAI looks for the properties of a bundle.

    Args:
        device: The device to run on.
        val_data_loader: The batches of the dataset.
        network: The network to run.
        inferer: The inferer that runs it.
        weights: The file of the network's weights, which are loaded when the run starts; None keeps the present ones.
        postprocessing: The postprocessing of each item.
        val_handlers: The further handlers, such as reports.
        amp: Whether to use MONAI's mixed precision; medsr's own is an option of the inferer.
        others: The further arguments of MONAI's evaluator.
    """

    def __init__(
        self,
        device: torch.device,
        val_data_loader: Iterable[Any],
        network: nn.Module,
        inferer: Inferer,
        weights: str | Path | None = None,
        postprocessing: Any = None,
        val_handlers: Sequence[Any] = (),
        amp: bool = False,
        **others: Any,
    ) -> None:
        loader = [] if weights is None else [StrictCheckpointLoader(str(weights), network)]
        super().__init__(
            device=device,
            val_data_loader=val_data_loader,
            network=network,
            inferer=inferer,
            postprocessing=postprocessing,
            val_handlers=[*loader, ProgressBar(persist=True), *val_handlers],
            amp=amp,
            **others,
        )
        savers = [t for t in getattr(postprocessing, "transforms", ()) if isinstance(t, SaveImageWithRecordd)]
        self.add_event_handler(Events.ITERATION_STARTED, _check_sources, savers)


def _check_sources(engine: Engine, savers: Sequence[SaveImageWithRecordd]) -> None:
    """Refuse images whose results cannot be saved in the requested way, before the network runs."""
    batch: Any = engine.state.batch
    for saver in savers:
        for image in decollate_batch(batch[saver.reference]):
            saver.check_source(image)
