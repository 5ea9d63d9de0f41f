"""Semantic segmentation, as the engine sees it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from torch import nn

from crosshead.tasks.classify.confusion import draw_confusion
from crosshead.tasks.counts import Counts
from crosshead.tasks.detect.data import load_objects
from crosshead.tasks.interface import Interface, NetInput
from crosshead.tasks.loading import AugmentedItems, EpochLoaders
from crosshead.tasks.module import Updates
from crosshead.tasks.net import build_dense, dense_config
from crosshead.tasks.segment.check import check_label_images, check_objects_painted
from crosshead.tasks.segment.data import (
    SegmentMeta,
    load_label_images,
    of_label_images,
    paint_data,
    weigh_classes,
)
from crosshead.tasks.segment.evaluation import SegmentEvaluation
from crosshead.tasks.segment.module import Segmenter
from crosshead.tasks.segment.net import SegmentationNet
from crosshead.tasks.segment.predict import SegmentResult, draw_examples, draw_with_legend, predict_labels
from crosshead.tasks.segment.recipe import SegmentRecipe
from crosshead.tasks.segment.transforms import eval_transform, train_transform
from crosshead.tasks.sources import Input
from crosshead.tasks.task import Data, DataError, Example, Picture, Task, require_folder


class Segmentation(Task[SegmentRecipe, SegmentMeta]):
    """A class for each pixel."""

    recipe = SegmentRecipe
    meta = SegmentMeta
    options: ClassVar[frozenset[str]] = frozenset({"tile"})
    single_images: ClassVar[bool] = True

    def data(self, recipe: SegmentRecipe) -> Data[SegmentMeta]:
        """Images with labels."""
        if of_label_images(recipe):
            data = load_label_images(recipe)
        else:
            data = paint_data(load_objects(recipe, masks=True))
        return weigh_classes(data) if recipe.class_weights == "balanced" else data

    def check_data(self, recipe: SegmentRecipe) -> Iterator[str | Counts]:
        """Everything that is wrong with images and labels, and what the splits hold."""
        require_folder(recipe, downloads=recipe.data == "fashion-scenes")
        try:
            check = check_label_images if of_label_images(recipe) else check_objects_painted
        except DataError as error:
            yield str(error)
            return
        yield from check(recipe)

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
            class_weights=meta.class_weights,
            window=recipe.crop,
            **updates,
        )

    def loaders(self, recipe: SegmentRecipe, data: Data[SegmentMeta], meta: SegmentMeta) -> EpochLoaders:
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
        whole = eval_transform(**look)
        return EpochLoaders(
            train=lambda epoch: AugmentedItems(data.train, transform, seed=recipe.seed, epoch=epoch),
            val=None if data.val is None else AugmentedItems(data.val, whole),
            test=AugmentedItems(data.test, whole),
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
        assert module.metrics is not None
        return SegmentEvaluation(images=images, weights=weights, **vars(module.metrics))

    def draw(
        self,
        title: str,
        recipe: SegmentRecipe,
        data: Data[SegmentMeta],
        meta: SegmentMeta,
        module: Segmenter,
    ) -> list[Picture]:
        """A few test images with truth and prediction, and which classes are taken for which."""
        assert module.metrics is not None
        examples = draw_examples(title, meta, module.model, data.test, window=module.window)
        return [
            Picture("confusion", draw_confusion(title, module.metrics.confusion, meta.classes)),
            Picture("examples", examples),
        ]

    def predict(
        self,
        recipe: SegmentRecipe,
        meta: SegmentMeta,
        net: nn.Module,
        inputs: Sequence[Input],
        *,
        tile: int | None = None,
    ) -> list[SegmentResult]:
        """The class of each pixel, in windows of `tile` pixels, 0 for never, by default as it is tested."""
        tile = recipe.crop if tile is None else tile
        return [predict_labels(meta, net, each, tile=tile) for each in inputs]

    def example(self, meta: SegmentMeta, sample: Any, *, name: str) -> Example:
        """An image with its labels."""
        truth = draw_with_legend(*sample, classes=meta.classes, ignore_index=meta.ignore_index)
        return replace(self.image_example(meta, sample, name=name), truth=truth)

    def interface(self, recipe: SegmentRecipe, meta: SegmentMeta, net: nn.Module) -> Interface:
        """Scores of the classes in each pixel."""
        return Interface(
            inputs=(NetInput.of_images(meta),),
            output="scores",
            axes=("batch", "class", "height", "width"),
            method="forward",
            trained=(recipe.crop, recipe.crop),
        )


TASK = Segmentation()
