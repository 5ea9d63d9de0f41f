"""Image classification, as the engine sees it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from crosshead.tasks.classify.audit import audit_folder
from crosshead.tasks.classify.confusion import draw_confusion
from crosshead.tasks.classify.evaluation import ClassifyEvaluation, evaluation_of
from crosshead.tasks.classify.module import Classifier
from crosshead.tasks.classify.net import build_model, model_config
from crosshead.tasks.classify.predict import rank_classes
from crosshead.tasks.classify.recipe import ClassifyRecipe
from crosshead.tasks.classify.sources import load_splits
from crosshead.tasks.classify.transforms import eval_transform, train_transform
from crosshead.tasks.images import read_image
from crosshead.tasks.loading import ImageLoaders
from crosshead.tasks.classify.data import ClassifyMeta
from crosshead.tasks.module import Updates
from crosshead.tasks.splits import ImageSplits
from crosshead.tasks.task import DataError
from crosshead.tasks.task import Picture, Prediction, Task


class Classification(Task[ClassifyRecipe, ClassifyMeta]):
    """One class for each image."""

    recipe = ClassifyRecipe
    meta = ClassifyMeta
    options: ClassVar[frozenset[str]] = frozenset({"top"})

    def load(self, recipe: ClassifyRecipe) -> ImageSplits:
        """The training and test images that a recipe names."""
        return load_splits(recipe)

    def check_data(self, recipe: ClassifyRecipe) -> Iterator[str]:
        """Everything that is wrong with the images; of single files the first fault."""
        if recipe.data in ("folder", "imagenet1k"):
            yield from audit_folder(recipe.data_dir)
            return
        try:
            load_splits(recipe)
        except (DataError, RunError) as error:
            yield str(error)

    def meta(self, recipe: ClassifyRecipe, splits: ImageSplits) -> ClassifyMeta:
        """Classes, size and normalisation, with the recipe's size where it names one."""
        return ClassifyMeta(
            classes=tuple(splits.classes),
            in_chans=splits.in_chans,
            image_size=recipe.image_size or splits.image_size,
            mean=tuple(splits.mean),
            std=tuple(splits.std),
        )

    def build(self, recipe: ClassifyRecipe, meta: ClassifyMeta) -> nn.Module:
        """timm's model."""
        return build_model(recipe, meta)

    def module(
        self, recipe: ClassifyRecipe, meta: ClassifyMeta, model: nn.Module, updates: Updates
    ) -> Classifier:
        """The classifier with its loss and its metrics."""
        return Classifier(
            model,
            num_classes=len(meta.classes),
            smoothing=recipe.smoothing,
            binary_loss=recipe.binary_loss,
            mixup=recipe.mixup,
            cutmix=recipe.cutmix,
            **updates,
        )

    def loaders(self, recipe: ClassifyRecipe, meta: ClassifyMeta, splits: ImageSplits) -> ImageLoaders:
        """Training and test images."""
        return ImageLoaders(
            train=splits.train,
            test=splits.test,
            train_transform=train_transform(
                image_size=meta.image_size,
                mean=meta.mean,
                std=meta.std,
                crop=recipe.crop,
                crop_scale=recipe.crop_scale,
                crop_padding=recipe.crop_padding,
                flip=recipe.flip,
                rotation=recipe.rotation,
                color_jitter=recipe.color_jitter,
                rand_augment=recipe.rand_augment,
                erasing=recipe.erasing,
            ),
            eval_transform=eval_transform(
                image_size=meta.image_size, mean=meta.mean, std=meta.std, crop_share=recipe.crop_share
            ),
            batch_size=recipe.batch_size,
            workers=recipe.workers,
            seed=recipe.seed,
        )

    def config(self, recipe: ClassifyRecipe, meta: ClassifyMeta, model: nn.Module) -> dict[str, Any]:
        """What timm reads."""
        return model_config(recipe, meta, model)

    def evaluation(
        self, module: Classifier, meta: ClassifyMeta, *, images: int, weights: str
    ) -> ClassifyEvaluation:
        """Accuracy, calibration and confusion."""
        return evaluation_of(task, meta, weights=weights)

    def draw(
        self,
        run: RunFolder,
        recipe: ClassifyRecipe,
        meta: ClassifyMeta,
        splits: ImageSplits,
        module: Classifier,
        figures: ClassifyEvaluation,
    ) -> list[tuple[str, Path]]:
        """Draws the confusion matrix."""
        draw_confusion(run, figures.confusion, meta.classes)
        return [("confusion", run.confusion)]

    def predict(
        self,
        recipe: ClassifyRecipe,
        meta: ClassifyMeta,
        model: nn.Module,
        paths: tuple[Path, ...],
        *,
        top: int = 5,
    ) -> Prediction:
        """The most probable classes of an image."""
        (path,) = paths
        picture = read_image(path, mode="L" if meta.in_chans == 1 else "RGB")
        ranked = rank_classes(model, meta, picture, crop_share=recipe.crop_share, top=top)
        return Prediction(
            name=path.stem,
            summary=", ".join(f"{each.name} {each.probability:.2%}" for each in ranked),
            content={
                "image": str(path),
                "classes": [{"name": each.name, "probability": each.probability} for each in ranked],
            },
        )


TASK = Classification()
