"""Change detection, as the engine sees it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from crosshead.tasks.net import build_dense, dense_config
from crosshead.tasks.change.evaluation import ChangeEvaluation
from crosshead.tasks.change.module import ChangeDetector
from crosshead.tasks.change.net import SiameseNet
from crosshead.tasks.change.pairs.crops import PairCrops
from crosshead.tasks.change.pairs.tiles import PairTiles
from crosshead.tasks.change.predict import predict_change, show_pairs
from crosshead.tasks.change.recipe import ChangeRecipe
from crosshead.tasks.change.sources import ChangeSplits, check_pairs, load_pairs
from crosshead.tasks.loading import EpochLoaders
from crosshead.tasks.change.data import ChangeMeta
from crosshead.tasks.module import Updates
from crosshead.tasks.task import Picture, Prediction, Task


class ChangeDetection(Task[ChangeRecipe, ChangeMeta]):
    """What has changed in each pixel between two dates."""

    recipe = ChangeRecipe
    meta = ChangeMeta
    options: ClassVar[frozenset[str]] = frozenset({"tile"})

    def load(self, recipe: ChangeRecipe) -> ChangeSplits:
        """Image pairs with one fold of their blocks held out."""
        return load_pairs(recipe)

    def check_data(self, recipe: ChangeRecipe) -> Iterator[str]:
        """Everything that is wrong with the files."""
        return check_pairs(recipe)

    def meta(self, recipe: ChangeRecipe, splits: ChangeSplits) -> ChangeMeta:
        """Classes, bands and their statistics at both dates."""
        return ChangeMeta(
            classes=splits.classes,
            in_chans=len(splits.bands),
            bands=splits.bands,
            mean=splits.statistics.before_mean,
            std=splits.statistics.before_std,
            after_mean=splits.statistics.after_mean,
            after_std=splits.statistics.after_std,
        )

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

    def module(self, recipe: ChangeRecipe, meta: ChangeMeta, model: nn.Module, updates: Updates) -> ChangeDetector:
        """The net with its loss and its metrics."""
        return ChangeDetector(model, classes=meta.classes, **updates)

    def loaders(self, recipe: ChangeRecipe, meta: ChangeMeta, splits: ChangeSplits) -> EpochLoaders:
        """Random crops to learn from; tiles with the held-out labels to measure on."""
        return EpochLoaders(
            train=lambda epoch: PairCrops(
                splits.pairs,
                splits.train,
                size=recipe.crop,
                count=recipe.crops,
                seed=recipe.seed,
                epoch=epoch,
                symmetries=recipe.symmetries,
            ),
            test=PairTiles(splits.pairs, splits.test, size=recipe.tile, overlap=recipe.tile // 4),
            batch_size=recipe.batch_size,
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
        assert module.figures is not None
        return ChangeEvaluation(images=images, weights=weights, **vars(module.figures))

    def draw(
        self,
        run: RunFolder,
        recipe: ChangeRecipe,
        meta: ChangeMeta,
        splits: ChangeSplits,
        module: ChangeDetector,
        figures: ChangeEvaluation,
    ) -> list[tuple[str, Path]]:
        """Draws pairs with what was found and what is labelled."""
        show_pairs(run, recipe, splits, module.model)
        return [("examples", run.examples)]

    def inputs(self, paths: tuple[Path, ...]) -> list[tuple[Path, ...]]:
        """All files belong to one pair.

        Raises:
            ValueError: If the dates have not equally many files.
        """
        if len(paths) % 2:
            raise ValueError(
                f"{len(paths)} file{'s' if len(paths) > 1 else ''} for two dates: give the files of the "
                "earlier date, then as many of the later one"
            )
        return [paths]

    def predict(
        self,
        recipe: ChangeRecipe,
        meta: ChangeMeta,
        model: nn.Module,
        paths: tuple[Path, ...],
        *,
        tile: int | None = None,
    ) -> Prediction:
        """The map of change of a pair."""
        return predict_change(meta, model, paths, tile=recipe.tile if tile is None else tile)


TASK = ChangeDetection()
