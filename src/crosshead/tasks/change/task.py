"""Change detection, as the engine sees it."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import nn

from crosshead.tasks.change.crops import PairCrops, Sample
from crosshead.tasks.change.data import ChangeData, ChangeMeta, WholePairs, check_data, load_data
from crosshead.tasks.change.dates import read_dates
from crosshead.tasks.change.evaluation import ChangeEvaluation
from crosshead.tasks.change.module import ChangeDetector
from crosshead.tasks.change.net import SiameseNet
from crosshead.tasks.change.pairs import ImagePair
from crosshead.tasks.change.predict import ChangeResult, draw_pairs, draw_truth, predict_change
from crosshead.tasks.change.recipe import ChangeRecipe
from crosshead.tasks.counts import Counts
from crosshead.tasks.interface import Interface, NetInput
from crosshead.tasks.loading import EpochLoaders
from crosshead.tasks.module import Updates
from crosshead.tasks.net import build_dense, dense_config
from crosshead.tasks.sources import Input
from crosshead.tasks.task import Example, Picture, Task


class ChangeDetection(Task[ChangeRecipe, ChangeMeta]):
    """What has changed in each pixel between two dates."""

    recipe = ChangeRecipe
    meta = ChangeMeta
    options: ClassVar[frozenset[str]] = frozenset({"tile"})
    pairs: ClassVar[bool] = True
    single_images: ClassVar[bool] = True
    arguments: ClassVar[str] = "BEFORE... AFTER..."

    def data(self, recipe: ChangeRecipe) -> ChangeData:
        """Image pairs, their labels dealt out into three splits block by block."""
        return load_data(recipe)

    def check_data(self, recipe: ChangeRecipe) -> Iterator[str | Counts]:
        """Everything that is wrong with the files, else why they cannot be split, else what there is."""
        return check_data(recipe)

    def build(self, recipe: ChangeRecipe, meta: ChangeMeta) -> nn.Module:
        """A Siamese net."""
        net = build_dense(
            recipe,
            lambda options: SiameseNet(
                recipe.model,
                in_chans=meta.in_chans,
                num_classes=len(meta.classes),
                dim=recipe.dim,
                detail_dim=recipe.detail_dim,
                symmetric=recipe.symmetric,
                drop_rate=recipe.dropout,
                pretrained=recipe.pretrained,
                **options,
            ),
        )
        if recipe.grad_checkpointing:
            net.set_grad_checkpointing()
        return net

    def module(
        self, recipe: ChangeRecipe, meta: ChangeMeta, model: nn.Module, updates: Updates
    ) -> ChangeDetector:
        """The net with its loss and its metrics."""
        return ChangeDetector(model, classes=meta.classes, tile=recipe.tile, **updates)

    def loaders(self, recipe: ChangeRecipe, data: ChangeData, meta: ChangeMeta) -> EpochLoaders:
        """Random crops to learn from; whole pairs, one by one, to measure on."""
        ready = data.standardised(meta)
        return EpochLoaders(
            train=lambda epoch: PairCrops(
                ready.train.pairs,
                size=recipe.crop,
                count=recipe.crops,
                seed=recipe.seed,
                epoch=epoch,
                symmetries=recipe.symmetries,
            ),
            val=None if ready.val is None else ready.val.labelled(),
            test=ready.test.labelled(),
            batch_size=recipe.batch_size,
            eval_batch_size=1,
            workers=recipe.workers,
            seed=recipe.seed,
        )

    def config(self, recipe: ChangeRecipe, meta: ChangeMeta, model: nn.Module) -> dict[str, Any]:
        """The backbone and what stands around it."""
        return dense_config(
            recipe, meta, dim=recipe.dim, detail_dim=recipe.detail_dim, symmetric=recipe.symmetric
        )

    def evaluation(
        self, module: ChangeDetector, meta: ChangeMeta, *, images: int, weights: str
    ) -> ChangeEvaluation:
        """Accuracy, kappa, F1 and area under the curve."""
        assert module.metrics is not None
        return ChangeEvaluation(images=images, weights=weights, **vars(module.metrics))

    def draw(
        self, title: str, recipe: ChangeRecipe, data: ChangeData, meta: ChangeMeta, module: ChangeDetector
    ) -> list[Picture]:
        """A few pairs with what was found and what is labelled."""
        return [Picture("examples", draw_pairs(title, data, meta, module.model, tile=recipe.tile))]

    def read(self, meta: ChangeMeta, source: Any, *, position: int) -> Input:
        """A pair: see `crosshead.tasks.change.dates.read_dates`."""
        return read_dates(meta, source, position=position)

    def predict(
        self,
        recipe: ChangeRecipe,
        meta: ChangeMeta,
        net: nn.Module,
        inputs: Sequence[Input],
        *,
        tile: int | None = None,
    ) -> list[ChangeResult]:
        """The map of change of each pair.

        Large pairs are seen in windows as they are tested; `tile` is another side of the windows in pixels, 0
        for never.

        Raises:
            ValueError: if `tile` is negative.
        """
        tile = recipe.tile if tile is None else tile
        if tile < 0:
            raise ValueError(f"tile must be 1 pixel or more, or 0 to see pairs whole; got {tile}")
        return [predict_change(meta, net, each, tile=tile or None) for each in inputs]

    def examples(self, meta: ChangeMeta, images: WholePairs, *, split: str) -> Iterator[Example]:
        """A few of the pairs that have labels of the split."""
        return super().examples(meta, images.labelled(), split=split)

    def example(self, meta: ChangeMeta, sample: Sample, *, name: str) -> Example:
        """A pair with its labels."""
        before, after, label = (part.numpy() for part in sample)
        pair = ImagePair(
            name=name, before=before, after=after, label=label.astype(np.uint8), bands=meta.bands
        )
        each = Input(name=name, source=name, content=(((name,), (name,)), pair))
        return Example(name=name, input=each, truth=draw_truth(pair, meta.classes))

    def interface(self, recipe: ChangeRecipe, meta: ChangeMeta, net: nn.Module) -> Interface:
        """Scores of the classes in each pixel of two dates, whose channels are given as files hold them."""
        before = NetInput(name="before", channels=meta.in_chans, scale=1.0, mean=meta.mean, std=meta.std)
        after = dataclasses.replace(before, name="after", mean=meta.after_mean, std=meta.after_std)
        return Interface(
            inputs=(before, after),
            output="scores",
            axes=("batch", "class", "height", "width"),
            method="forward",
            trained=(recipe.crop, recipe.crop),
        )


TASK = ChangeDetection()
