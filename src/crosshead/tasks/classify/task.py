"""Image classification, as the engine sees it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from torch import nn
from torch.utils.data import Subset

from crosshead.tasks.class_weights import balanced_weights
from crosshead.tasks.classify.cifar10 import load_cifar10
from crosshead.tasks.classify.confusion import draw_confusion
from crosshead.tasks.classify.data import ClassifyMeta, load_digits, load_fashion_mnist
from crosshead.tasks.classify.evaluation import ClassifyEvaluation
from crosshead.tasks.classify.folder import (
    check_folder,
    find_imagenet1k,
    find_splits,
    load_folder,
    load_imagenet1k,
)
from crosshead.tasks.classify.module import Classifier
from crosshead.tasks.classify.net import build_model, model_config
from crosshead.tasks.classify.predict import ClassifyResult, rank_classes
from crosshead.tasks.classify.recipe import ClassifyRecipe
from crosshead.tasks.classify.transforms import eval_transform, train_transform
from crosshead.tasks.counts import Counts
from crosshead.tasks.interface import Interface, NetInput
from crosshead.tasks.loading import ImageLoaders
from crosshead.tasks.module import Updates
from crosshead.tasks.sources import Input
from crosshead.tasks.splits import carve
from crosshead.tasks.task import Data, DataError, Example, Picture, Task, require_folder

# Sources that torchvision fetches.
DOWNLOADS = ("fashion-mnist", "cifar10")


class Classification(Task[ClassifyRecipe, ClassifyMeta]):
    """One class for each image."""

    recipe = ClassifyRecipe
    meta = ClassifyMeta
    options: ClassVar[frozenset[str]] = frozenset({"top"})
    ranks: ClassVar[bool] = True

    def data(self, recipe: ClassifyRecipe) -> Data[ClassifyMeta]:
        """The images that a recipe names, with a validation split carved where the publisher gives none."""
        data = _load(recipe)
        # The type of data sets does not say that these know their labels.
        train: Any = data.train
        val = data.val
        if val is None:
            train, val = carve(train, fraction=recipe.val, seed=recipe.seed, labels=train.labels)
        weights = None
        if recipe.class_weights == "balanced":
            weights = balanced_weights(np.bincount(labels_of(train), minlength=len(data.meta.classes)))
        meta = replace(data.meta, image_size=recipe.image_size or data.meta.image_size, class_weights=weights)
        return Data(train=train, val=val, test=data.test, meta=meta)

    def check_data(self, recipe: ClassifyRecipe) -> Iterator[str | Counts]:
        """Everything that is wrong with folders of images, and of published files the first fault.

        Of sound data it ends with what the splits hold.
        """
        find = {"folder": find_splits, "imagenet1k": find_imagenet1k}.get(recipe.data)
        if recipe.data != "digits":
            require_folder(recipe, downloads=recipe.data in DOWNLOADS)
        sound = True
        try:
            for fault in () if find is None else check_folder(find(recipe.data_dir)):
                sound = False
                yield fault
            if sound:
                yield count_images(self.data(recipe))
        except DataError as error:
            yield str(error)

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
            class_weights=meta.class_weights,
            mixup=recipe.mixup,
            cutmix=recipe.cutmix,
            **updates,
        )

    def loaders(self, recipe: ClassifyRecipe, data: Data[ClassifyMeta], meta: ClassifyMeta) -> ImageLoaders:
        """Augmented images to train on, plain ones to validate and test on."""
        return ImageLoaders(
            train=data.train,
            val=data.val,
            test=data.test,
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
                image_size=meta.image_size, mean=meta.mean, std=meta.std, crop_fraction=recipe.crop_fraction
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
        return ClassifyEvaluation.of(module, meta, images=images, weights=weights)

    def draw(
        self,
        title: str,
        recipe: ClassifyRecipe,
        data: Data[ClassifyMeta],
        meta: ClassifyMeta,
        module: Classifier,
    ) -> list[Picture]:
        """The confusion matrix."""
        confusion = module.test_metrics["confusion"].compute().tolist()
        return [Picture("confusion", draw_confusion(title, confusion, meta.classes))]

    def predict(
        self,
        recipe: ClassifyRecipe,
        meta: ClassifyMeta,
        net: nn.Module,
        inputs: Sequence[Input],
        *,
        top: int = 5,
    ) -> list[ClassifyResult]:
        """The `top` most probable classes of each image."""
        return rank_classes(recipe, meta, net, inputs, top=top)

    def example(self, meta: ClassifyMeta, sample: Any, *, name: str) -> Example:
        """An image that bears the name of its class."""
        found, (_, label) = self.image_example(meta, sample, name=name), sample
        return replace(found, input=replace(found.input, name=f"{name}, truth: {meta.classes[label]}"))

    def interface(self, recipe: ClassifyRecipe, meta: ClassifyMeta, net: nn.Module) -> Interface:
        """Logits of images of the trained size."""
        return Interface(
            inputs=(NetInput.of_images(meta),),
            output="logits",
            axes=("batch", "class"),
            method="forward",
            trained=(meta.image_size, meta.image_size),
            shorter_side=math.floor(meta.image_size / recipe.crop_fraction),
        )


def _load(recipe: ClassifyRecipe) -> Data[ClassifyMeta]:
    if recipe.data == "digits":
        return load_digits()
    folder = require_folder(recipe, downloads=recipe.data in DOWNLOADS)
    match recipe.data:
        case "fashion-mnist":
            return load_fashion_mnist(folder, download=recipe.download)
        case "cifar10":
            return load_cifar10(folder, download=recipe.download)
        case "imagenet1k":
            return load_imagenet1k(folder)
        case "folder":
            return load_folder(folder, test=recipe.test)


def labels_of(images: Any) -> np.ndarray:
    """The labels of a split, which may be a part of another one.

    Example:
        >>> labels_of(Subset(load_digits().train, [0, 1])).tolist()
        [0, 1]
    """
    return (
        labels_of(images.dataset)[images.indices] if isinstance(images, Subset) else np.asarray(images.labels)
    )


def count_images(data: Data[ClassifyMeta]) -> Counts:
    """Images of each class by split."""
    splits = {"train": data.train, "val": data.val, "test": data.test}
    labels = {split: labels_of(images) for split, images in splits.items() if images is not None}
    names = data.meta.classes
    counted = {split: np.bincount(found, minlength=len(names)) for split, found in labels.items()}
    return Counts(
        totals={"images": {split: len(found) for split, found in labels.items()}},
        classes={
            f"images of {name}": {split: int(counts[label]) for split, counts in counted.items()}
            for label, name in enumerate(names)
        },
    )


TASK = Classification()
