"""Images to learn a teacher's tokens from, with or without labels."""

import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset, Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS

from crosshead.tasks.classify.cifar10 import load_cifar10
from crosshead.tasks.classify.data import load_fashion_mnist
from crosshead.tasks.images import ImageFiles, read_image
from crosshead.tasks.linearize.recipe import LinearizeRecipe
from crosshead.tasks.linearize.teacher import (
    LARGEST_BY_DEFAULT,
    describe,
    find_teacher,
    in_chans,
    timm_config,
)
from crosshead.tasks.splits import carve, existing_folder, find_places, shared_files
from crosshead.tasks.task import Data, DataError, Meta, require_folder

logger = logging.getLogger(__name__)

# Of fewer images no training learns what a teacher makes of images in general.
FEW = 10
UNLABELLED = -1


@dataclass(frozen=True, kw_only=True)
class LinearizeMeta(Meta):
    """What a linearized ViT has to know about its images; mean and deviation are the teacher's.

    Attributes:
        image_size: side of the crops in pixels, the first of several.
        patch: sides of an image are multiples of so many pixels.
        crop_fraction: fraction of the resized short side that the teacher was measured on.
        architecture: timm's name of the teacher, without the tag of its weights.
        arguments: of its constructor, as JSON has them: a student is built without its teacher.
        labels: names of the teacher's classes; empty where they are not known.
    """

    image_size: int
    patch: tuple[int, int]
    crop_fraction: float
    architecture: str
    arguments: dict[str, Any]
    labels: tuple[str, ...]


def load_images(recipe: LinearizeRecipe) -> Data[LinearizeMeta]:
    """The images that a recipe names, in three splits, and what its teacher wants of them.

    Raises:
        DataError: if the folder is missing, holds no images, or too many of them are unreadable.
        ValueError: if the teacher is unknown, the image size does not fit its patches, or it takes images of
            other than 1 or 3 channels.
    """
    meta = _meta(recipe)
    train, val, test = _splits(recipe)
    if val is None and len(train):
        train, val = carve(train, fraction=recipe.val, seed=recipe.seed)
    count = len(train)  # pyright: ignore[reportArgumentType] (map-style sets have a length)
    if count == 0:
        return Data(train=train, val=val, test=test, meta=meta)
    if count < FEW:
        logger.warning("%d training images are few: what is learned from them may hold for them alone", count)
    repeats = math.ceil(recipe.crops / count)
    return Data(train=ConcatDataset(repeats * [train]), val=val, test=test, meta=meta)


def check_images(recipe: LinearizeRecipe) -> Iterator[str]:
    """Every image that cannot be read, and every one that two splits share."""
    if recipe.data != "images":
        try:
            _splits(recipe)
        except DataError as error:
            yield str(error)
        return
    found = _find(require_folder(recipe))
    for path in (path for paths in found.values() for path in paths):
        try:
            read_image(path)
        except DataError as error:
            yield str(error)
    yield from shared_files(found)


def labels_of(images: Dataset) -> np.ndarray:
    """The label of each image, `UNLABELLED` where it has none; of a part of a set those of the part."""
    while not hasattr(images, "labels"):
        whole: Any = images
        if isinstance(images, ConcatDataset):
            return labels_of(images.datasets[0])
        return labels_of(whole.dataset)[whole.indices]
    return np.asarray(images.labels)  # pyright: ignore[reportAttributeAccessIssue]


def _meta(recipe: LinearizeRecipe) -> LinearizeMeta:
    teacher = find_teacher(recipe)
    model = describe(teacher)
    config = timm_config(model)
    patch = model.patch_embed.feat_ratio(as_scalar=False)
    own = model.patch_embed.img_size or config["input_size"][1:]
    default = min(LARGEST_BY_DEFAULT, *own) // math.lcm(*patch) * math.lcm(*patch)
    crop_sizes = recipe.image_size or (default,)
    for wanted in (*crop_sizes, *recipe.test_sizes):
        if wanted % patch[0] or wanted % patch[1]:
            raise ValueError(
                f"image_size and test_sizes must be multiples of the patch, {patch[0]} x {patch[1]} pixels; "
                f"got {wanted}: give {max(1, round(wanted / math.lcm(*patch))) * math.lcm(*patch)}"
            )
    channels, means = in_chans(model), len(config["mean"])
    if channels not in (1, 3) or means != channels:
        raise ValueError(
            f"model {recipe.model} must take images of 1 or 3 channels, with a mean for each; got {channels} "
            f"and {means} means: leave in_chans as the teacher has it, images are made grey or colour for it"
        )
    # What timm would look up by the tag of the weights, which a student has not.
    fixed = {
        "num_classes": model.num_classes,
        "in_chans": channels,
        "global_pool": model.global_pool,
        "img_size": model.patch_embed.img_size,
    }
    return LinearizeMeta(
        classes=(),
        in_chans=channels,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        image_size=crop_sizes[0],
        patch=tuple(patch),
        crop_fraction=float(config.get("crop_pct") or 1.0),
        architecture=teacher.architecture,
        arguments=json.loads(json.dumps({**teacher.arguments, **fixed})),
        labels=teacher.labels,
    )


def _splits(recipe: LinearizeRecipe) -> tuple[Any, Any, Any]:
    """Training, validation and test images; there may be none to validate on."""
    folder = require_folder(recipe, downloads=recipe.data != "images")
    if recipe.data != "images":
        load = {"fashion-mnist": load_fashion_mnist, "cifar10": load_cifar10}[recipe.data]
        data = load(folder, download=recipe.download)
        return data.train, data.val, data.test
    found = _find(folder)
    labels = _labels(found)
    files = {}
    for split, paths in found.items():
        files[split] = ImageFiles([str(path) for path in paths], labels[split], root=existing_folder(folder))
        files[split].probe()
    if "test" not in files:
        train, test = carve(files["train"], fraction=recipe.test, seed=recipe.seed)
        if test is None:
            raise DataError(f"{folder}: has no test/ folder, and --test 0 leaves nothing to test on")
        return train, None, test
    nothing = ImageFiles([], np.empty(0, dtype=int), root=existing_folder(folder))
    return files.get("train", nothing), files.get("val"), files["test"]


def _find(folder: Path) -> dict[str, Sequence[Path]]:
    """The image files of each split; of `train` alone where there is no `test` folder."""
    root = existing_folder(folder)
    folders = {path.name.casefold(): path for path in sorted(root.iterdir()) if path.is_dir()}
    places = find_places(
        lambda _, names: next((folders[name] for name in names if name in folders), None),
        train=None,
        val=None,
        test=None,
    )
    if "test" not in places:
        places = {"train": root}
    found: dict[str, Sequence[Path]] = {split: _images_below(place) for split, place in places.items()}
    for split, paths in found.items():
        if not paths:
            raise DataError(
                f"{places[split]}: holds no images ({', '.join(IMG_EXTENSIONS[:4])}, ...), nor do folders "
                "in it; give one that does"
            )
    return found


def _images_below(folder: Path) -> list[Path]:
    return sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(IMG_EXTENSIONS) and not name.startswith(".")
    )


def _labels(found: dict[str, Sequence[Path]]) -> dict[str, np.ndarray]:
    """The number of each image's folder, where several splits have the same two or more of them."""
    names = {split: [path.parent.name for path in paths] for split, paths in found.items()}
    classes = sorted(set(names.get("train", ())))
    flat = all(len({path.parent.parent for path in paths}) == 1 for paths in found.values())
    if (
        len(found) < 2
        or len(classes) < 2
        or not flat
        or any(sorted(set(each)) != classes for each in names.values())
    ):
        return {split: np.full(len(paths), UNLABELLED) for split, paths in found.items()}
    return {split: np.searchsorted(classes, each) for split, each in names.items()}
