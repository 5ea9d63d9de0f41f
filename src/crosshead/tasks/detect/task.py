"""Object detection and instance segmentation, as the engine sees them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from crosshead.runs.folder import RunFolder
from crosshead.runs.model import build_dense, dense_config
from crosshead.tasks.dense_splits import DetectionSplits
from crosshead.tasks.detect.evaluation import DetectEvaluation
from crosshead.tasks.detect.module import Detector
from crosshead.tasks.detect.net import build_detector
from crosshead.tasks.detect.predict import predict_objects, show_objects
from crosshead.tasks.detect.recipe import DetectRecipe
from crosshead.tasks.detect.sources import check_dense, load_objects
from crosshead.tasks.detect.transforms import collate, test_transform, train_transform
from crosshead.tasks.loading import AugmentedItems, EpochLoaders
from crosshead.tasks.meta import ObjectFacts
from crosshead.tasks.module import Updates
from crosshead.tasks.task import Job, Prediction


class Detection(Job[DetectRecipe, ObjectFacts]):
    """Boxes, and masks where the detector makes them."""

    options: ClassVar[frozenset[str]] = frozenset({"min_score", "tile"})
    single_images: ClassVar[bool] = True

    def load(self, recipe: DetectRecipe) -> DetectionSplits:
        """Images with objects."""
        return load_objects(recipe, masks=recipe.masks)

    def check_data(self, recipe: DetectRecipe) -> Iterator[str]:
        """Everything that is wrong with json files, images and masks."""
        return check_dense(recipe, masks=recipe.masks)

    def facts(self, recipe: DetectRecipe, splits: DetectionSplits) -> ObjectFacts:
        """Classes, normalisation and sizes, with the recipe's sizes where it names some."""
        return ObjectFacts(
            classes=splits.classes,
            category_ids=splits.category_ids,
            masks=recipe.masks,
            in_chans=splits.in_chans,
            mean=splits.mean,
            std=splits.std,
            short_side=recipe.short_side or splits.short_side,
            long_side=recipe.long_side or max(splits.long_side, recipe.short_side or 0),
        )

    def build(self, recipe: DetectRecipe, facts: ObjectFacts) -> nn.Module:
        """torchvision's detector over a feature pyramid."""
        return build_dense(
            recipe,
            lambda options: build_detector(
                recipe.detector,
                recipe.model,
                num_classes=len(facts.classes),
                in_chans=facts.in_chans,
                mean=facts.mean,
                std=facts.std,
                short_side=facts.short_side,
                long_side=facts.long_side,
                anchor_sizes=recipe.anchor_sizes,
                max_detections=recipe.max_detections,
                rois=recipe.rois,
                pyramid_dim=recipe.pyramid_dim,
                pretrained=recipe.pretrained,
                grad_checkpointing=recipe.grad_checkpointing,
                backbone_options=options,
            ),
        )

    def task(self, recipe: DetectRecipe, facts: ObjectFacts, model: nn.Module, updates: Updates) -> Detector:
        """The detector with its losses and its metrics."""
        return Detector(
            model,
            classes=facts.classes,
            masks=facts.masks,
            max_detections=recipe.max_detections,
            **updates,
        )

    def loaders(self, recipe: DetectRecipe, facts: ObjectFacts, splits: DetectionSplits) -> EpochLoaders:
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
            test=AugmentedItems(splits.test, test_transform()),
            batch_size=recipe.batch_size,
            test_batch_size=1,
            collate=collate,
            workers=recipe.workers,
            seed=recipe.seed,
        )

    def config(self, recipe: DetectRecipe, facts: ObjectFacts, model: nn.Module) -> dict[str, Any]:
        """The backbone and the detector."""
        return dense_config(
            recipe,
            facts,
            detector=recipe.detector,
            pyramid_dim=recipe.pyramid_dim,
            anchor_sizes=list(recipe.anchor_sizes),
            max_detections=recipe.max_detections,
        )

    def evaluation(
        self, task: Detector, facts: ObjectFacts, *, images: int, weights: str
    ) -> DetectEvaluation:
        """Average precision by COCO's rules."""
        found = task.precision
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
        facts: ObjectFacts,
        splits: DetectionSplits,
        task: Detector,
        figures: DetectEvaluation,
    ) -> list[tuple[str, Path]]:
        """Draws a few test images with truth and prediction."""
        show_objects(run, facts, splits, task.model)
        return [("examples", run.examples)]

    def predict(
        self,
        recipe: DetectRecipe,
        facts: ObjectFacts,
        model: nn.Module,
        paths: tuple[Path, ...],
        *,
        min_score: float = 0.5,
        tile: int | None = None,
    ) -> Prediction:
        """The objects in an image."""
        (path,) = paths
        return predict_objects(facts, model, path, min_score=min_score, tile=tile)
