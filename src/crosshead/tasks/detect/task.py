"""Object detection and instance segmentation, as the engine sees them."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from torch import nn

from crosshead.tasks.counts import Counts
from crosshead.tasks.detect.check import check_objects
from crosshead.tasks.detect.data import DetectMeta, load_objects
from crosshead.tasks.detect.evaluation import DetectEvaluation
from crosshead.tasks.detect.from_file import FileDetector
from crosshead.tasks.detect.module import Detector
from crosshead.tasks.detect.net import build_detector
from crosshead.tasks.detect.pictures import draw_with_legend
from crosshead.tasks.detect.predict import DetectResult, coco_file, labelled, predict_objects, show_objects
from crosshead.tasks.detect.recipe import DetectRecipe
from crosshead.tasks.detect.scaled import ScaledDetector
from crosshead.tasks.detect.transforms import collate, eval_transform, train_transform
from crosshead.tasks.interface import Interface, NetInput, Objects
from crosshead.tasks.loading import AugmentedItems, EpochLoaders
from crosshead.tasks.module import Updates
from crosshead.tasks.net import build_dense, dense_config
from crosshead.tasks.sources import Input
from crosshead.tasks.task import Data, Example, Picture, Task


class Detection(Task[DetectRecipe, DetectMeta]):
    """Boxes, and masks where the detector makes them."""

    recipe = DetectRecipe
    meta = DetectMeta
    options: ClassVar[frozenset[str]] = frozenset({"min_score", "tile"})
    single_images: ClassVar[bool] = True

    def data(self, recipe: DetectRecipe) -> Data[DetectMeta]:
        """Images with objects; the sizes that the recipe names take the place of those of the images."""
        data = load_objects(recipe, masks=recipe.masks)
        meta = dataclasses.replace(
            data.meta,
            min_size=recipe.min_size or data.meta.min_size,
            max_size=recipe.max_size or max(data.meta.max_size, recipe.min_size or 0),
        )
        return dataclasses.replace(data, meta=meta)

    def check_data(self, recipe: DetectRecipe) -> Iterator[str | Counts]:
        """Everything that is wrong with annotations, images and masks, and what the splits hold."""
        return check_objects(recipe, masks=recipe.masks)

    def build(self, recipe: DetectRecipe, meta: DetectMeta) -> nn.Module:
        """torchvision's detector over a feature pyramid."""
        return build_dense(
            recipe,
            lambda options: build_detector(
                recipe.detector,
                recipe.model,
                num_classes=len(meta.classes),
                in_chans=meta.in_chans,
                mean=meta.mean,
                std=meta.std,
                min_size=meta.min_size,
                max_size=meta.max_size,
                anchor_sizes=recipe.anchor_sizes,
                max_detections=recipe.max_detections,
                rois=recipe.rois,
                pyramid_dim=recipe.pyramid_dim,
                pretrained=recipe.pretrained,
                grad_checkpointing=recipe.grad_checkpointing,
                backbone_options=options,
            ),
        )

    def module(self, recipe: DetectRecipe, meta: DetectMeta, model: nn.Module, updates: Updates) -> Detector:
        """The detector with its losses and its metrics."""
        return Detector(
            model, classes=meta.classes, masks=meta.masks, max_detections=recipe.max_detections, **updates
        )

    def loaders(self, recipe: DetectRecipe, data: Data[DetectMeta], meta: DetectMeta) -> EpochLoaders:
        """Images of any sizes; one by one to validate and to test on."""
        transform = train_transform(
            flip=recipe.flip,
            vertical_flip=recipe.vertical_flip,
            scale=recipe.scale,
            color_jitter=recipe.color_jitter,
            crop=recipe.crop,
        )
        return EpochLoaders(
            train=lambda epoch: AugmentedItems(data.train, transform, seed=recipe.seed, epoch=epoch),
            val=None if data.val is None else AugmentedItems(data.val, eval_transform()),
            test=AugmentedItems(data.test, eval_transform()),
            batch_size=recipe.batch_size,
            eval_batch_size=1,
            collate=collate,
            workers=recipe.workers,
            seed=recipe.seed,
        )

    def config(self, recipe: DetectRecipe, meta: DetectMeta, model: nn.Module) -> dict[str, Any]:
        """The backbone and the detector."""
        return dense_config(
            recipe,
            meta,
            detector=recipe.detector,
            pyramid_dim=recipe.pyramid_dim,
            anchor_sizes=list(recipe.anchor_sizes),
            max_detections=recipe.max_detections,
        )

    def evaluation(
        self, module: Detector, meta: DetectMeta, *, images: int, weights: str
    ) -> DetectEvaluation:
        """Average precision by COCO's rules."""
        found = module.precision
        return DetectEvaluation(
            images=images,
            weights=weights,
            box=found["box"],
            mask=found.get("mask"),
            max_detections=max(found["box"].recall),
        )

    def draw(
        self, title: str, recipe: DetectRecipe, data: Data[DetectMeta], meta: DetectMeta, module: Detector
    ) -> list[Picture]:
        """A few test images with truth and prediction."""
        return [Picture("examples", show_objects(title, data.test, meta, module.model))]

    def predict(
        self,
        recipe: DetectRecipe,
        meta: DetectMeta,
        net: nn.Module,
        inputs: Sequence[Input],
        *,
        min_score: float = 0.5,
        tile: int | None = None,
    ) -> list[DetectResult]:
        """The objects in each image."""
        return [predict_objects(meta, net, each, min_score=min_score, tile=tile) for each in inputs]

    def example(self, meta: DetectMeta, sample: Any, *, name: str) -> Example:
        """An image with its labelled objects."""
        image, objects = sample
        truth = draw_with_legend(image, classes=meta.classes, **labelled(objects, meta))
        return dataclasses.replace(self.image_example(meta, sample, name=name), truth=truth)

    def interface(self, recipe: DetectRecipe, meta: DetectMeta, net: nn.Module) -> Interface:
        """Objects in one image, scaled as the run scales it."""
        assert isinstance(net, ScaledDetector)
        return Interface(
            inputs=(NetInput.of_images(meta),),
            output="boxes",
            axes=("object", "side"),
            method="forward",
            trained=(meta.min_size, meta.max_size),
            shorter_side=meta.min_size,
            objects=Objects(min_score=net.min_score, longer_side=meta.max_size, mask_side=net.mask_side),
        )

    def to_export(self, net: nn.Module) -> ScaledDetector:
        """What comes after the scaling of images."""
        return ScaledDetector(net)

    def of_file(self, meta: DetectMeta, interface: Interface, file: nn.Module) -> FileDetector:
        """The file, with the scaling of images before it."""
        assert interface.objects is not None
        return FileDetector(file, meta, min_score=interface.objects.min_score)

    def to_coco(self, results: Sequence[DetectResult]) -> dict[str, Any]:
        """Boxes, masks and scores."""
        return coco_file(results)


TASK = Detection()
