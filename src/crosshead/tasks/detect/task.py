"""Object detection and instance segmentation, as the engine sees them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from crosshead.tasks.net import build_dense, dense_config
from crosshead.tasks.dense_splits import DetectionSplits
from crosshead.tasks.detect.evaluation import DetectEvaluation
from crosshead.tasks.detect.module import Detector
from crosshead.tasks.detect.net import build_detector
from crosshead.tasks.detect.predict import predict_objects, show_objects
from crosshead.tasks.detect.recipe import DetectRecipe
from crosshead.tasks.detect.sources import check_dense, load_objects
from crosshead.tasks.detect.transforms import collate, eval_transform, train_transform
from crosshead.tasks.loading import AugmentedItems, EpochLoaders
from crosshead.tasks.detect.data import DetectMeta
from crosshead.tasks.module import Updates
from crosshead.tasks.task import Picture, Prediction, Task


class Detection(Task[DetectRecipe, DetectMeta]):
    """Boxes, and masks where the detector makes them."""

    recipe = DetectRecipe
    meta = DetectMeta
    options: ClassVar[frozenset[str]] = frozenset({"min_score", "tile"})
    single_images: ClassVar[bool] = True

    def load(self, recipe: DetectRecipe) -> DetectionSplits:
        """Images with objects."""
        return load_objects(recipe, masks=recipe.masks)

    def check_data(self, recipe: DetectRecipe) -> Iterator[str]:
        """Everything that is wrong with json files, images and masks."""
        return check_dense(recipe, masks=recipe.masks)

    def meta(self, recipe: DetectRecipe, splits: DetectionSplits) -> DetectMeta:
        """Classes, normalisation and sizes, with the recipe's sizes where it names some."""
        return DetectMeta(
            classes=splits.classes,
            category_ids=splits.category_ids,
            masks=recipe.masks,
            in_chans=splits.in_chans,
            mean=splits.mean,
            std=splits.std,
            min_size=recipe.min_size or splits.min_size,
            max_size=recipe.max_size or max(splits.max_size, recipe.min_size or 0),
        )

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
            model,
            classes=meta.classes,
            masks=meta.masks,
            max_detections=recipe.max_detections,
            **updates,
        )

    def loaders(self, recipe: DetectRecipe, meta: DetectMeta, splits: DetectionSplits) -> EpochLoaders:
        """Images of any sizes; one by one to measure on."""
        transform = train_transform(
            flip=recipe.flip,
            vertical_flip=recipe.vertical_flip,
            scale=recipe.scale,
            color_jitter=recipe.color_jitter,
            crop=recipe.crop,
        )
        return EpochLoaders(
            train=lambda epoch: AugmentedItems(splits.train, transform, seed=recipe.seed, epoch=epoch),
            test=AugmentedItems(splits.test, eval_transform()),
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
        self,
        run: RunFolder,
        recipe: DetectRecipe,
        meta: DetectMeta,
        splits: DetectionSplits,
        module: Detector,
        figures: DetectEvaluation,
    ) -> list[tuple[str, Path]]:
        """Draws a few test images with truth and prediction."""
        show_objects(run, meta, splits, module.model)
        return [("examples", run.examples)]

    def predict(
        self,
        recipe: DetectRecipe,
        meta: DetectMeta,
        model: nn.Module,
        paths: tuple[Path, ...],
        *,
        min_score: float = 0.5,
        tile: int | None = None,
    ) -> Prediction:
        """The objects in an image."""
        (path,) = paths
        return predict_objects(meta, model, path, min_score=min_score, tile=tile)


TASK = Detection()
