"""Semantic segmentation, as the engine sees it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from crosshead.tasks.net import build_dense, dense_config
from crosshead.tasks.classify.confusion import draw_confusion
from crosshead.tasks.dense_splits import SegmentationSplits
from crosshead.tasks.detect.sources import check_dense, load_labels
from crosshead.tasks.loading import AugmentedItems, EpochLoaders
from crosshead.tasks.segment.data import SegmentMeta
from crosshead.tasks.module import Updates
from crosshead.tasks.segment.evaluation import SegmentEvaluation
from crosshead.tasks.segment.module import Segmenter
from crosshead.tasks.segment.net import SegmentationNet
from crosshead.tasks.segment.predict import predict_labels, show_labels
from crosshead.tasks.segment.recipe import SegmentRecipe
from crosshead.tasks.segment.transforms import eval_transform, train_transform
from crosshead.tasks.task import Picture, Prediction, Task


class Segmentation(Task[SegmentRecipe, SegmentMeta]):
    """A class for each pixel."""

    recipe = SegmentRecipe
    meta = SegmentMeta
    options: ClassVar[frozenset[str]] = frozenset({"tile"})
    single_images: ClassVar[bool] = True

    def load(self, recipe: SegmentRecipe) -> SegmentationSplits:
        """Images with labels."""
        return load_labels(recipe)

    def check_data(self, recipe: SegmentRecipe) -> Iterator[str]:
        """Everything that is wrong with images and labels."""
        return check_dense(recipe, masks=True)

    def meta(self, recipe: SegmentRecipe, splits: SegmentationSplits) -> SegmentMeta:
        """Classes, normalisation and the ignored label."""
        return SegmentMeta(
            classes=splits.classes,
            in_chans=splits.in_chans,
            mean=splits.mean,
            std=splits.std,
            ignore_index=splits.ignore_index,
        )

    def build(self, recipe: SegmentRecipe, meta: SegmentMeta) -> nn.Module:
        """A decoder over a backbone."""
        net = build_dense(
            recipe,
            lambda options: SegmentationNet(
                recipe.decoder,
                recipe.model,
                num_classes=len(meta.classes),
                in_chans=meta.in_chans,
                decoder_dim=recipe.decoder_dim,
                pretrained=recipe.pretrained,
                backbone_options=options,
            ),
        )
        if recipe.grad_checkpointing:
            net.set_grad_checkpointing()
        return net

    def module(
        self, recipe: SegmentRecipe, meta: SegmentMeta, model: nn.Module, updates: Updates
    ) -> Segmenter:
        """The net with its loss and its metrics."""
        return Segmenter(
            model,
            classes=meta.classes,
            ignore_index=meta.ignore_index,
            dice=recipe.dice,
            window=recipe.crop,
            **updates,
        )

    def loaders(self, recipe: SegmentRecipe, meta: SegmentMeta, splits: SegmentationSplits) -> EpochLoaders:
        """Crops to learn from; whole images, one by one, to measure on."""
        look = {"mean": meta.mean, "std": meta.std}
        transform = train_transform(
            crop=recipe.crop,
            scale=recipe.scale,
            flip=recipe.flip,
            vertical_flip=recipe.vertical_flip,
            color_jitter=recipe.color_jitter,
            ignore_index=meta.ignore_index,
            **look,
        )
        return EpochLoaders(
            train=lambda epoch: AugmentedItems(splits.train, transform, seed=recipe.seed, epoch=epoch),
            test=AugmentedItems(splits.test, eval_transform(**look)),
            batch_size=recipe.batch_size,
            eval_batch_size=1,
            workers=recipe.workers,
            seed=recipe.seed,
        )

    def config(self, recipe: SegmentRecipe, meta: SegmentMeta, model: nn.Module) -> dict[str, Any]:
        """The backbone and the decoder."""
        return dense_config(recipe, meta, decoder=recipe.decoder, decoder_dim=recipe.decoder_dim)

    def evaluation(
        self, module: Segmenter, meta: SegmentMeta, *, images: int, weights: str
    ) -> SegmentEvaluation:
        """Intersection over union and accuracy."""
        assert module.figures is not None
        return SegmentEvaluation(images=images, weights=weights, **vars(module.figures))

    def draw(
        self,
        run: RunFolder,
        recipe: SegmentRecipe,
        meta: SegmentMeta,
        splits: SegmentationSplits,
        module: Segmenter,
        figures: SegmentEvaluation,
    ) -> list[tuple[str, Path]]:
        """Draws a few test images with truth and prediction, and which classes are taken for which."""
        draw_confusion(run, figures.confusion, meta.classes)
        show_labels(run, meta, splits, task)
        return [("confusion", run.confusion), ("examples", run.examples)]

    def predict(
        self,
        recipe: SegmentRecipe,
        meta: SegmentMeta,
        model: nn.Module,
        paths: tuple[Path, ...],
        *,
        tile: int | None = None,
    ) -> Prediction:
        """The class of each pixel of an image."""
        (path,) = paths
        return predict_labels(meta, model, path, tile=recipe.crop if tile is None else tile)


TASK = Segmentation()
