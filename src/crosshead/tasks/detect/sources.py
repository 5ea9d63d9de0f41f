"""From recipes of detection and segmentation to labelled images."""

from collections.abc import Iterator
from typing import Any

from crosshead.runs.folder import RunError
from crosshead.tasks.dense_splits import DetectionSplits, SegmentationSplits
from crosshead.tasks.detect.coco.check import check_coco
from crosshead.tasks.detect.coco.objects import load_coco
from crosshead.tasks.detect.recipe import DetectRecipe
from crosshead.tasks.detect.scenes.fashion import load_fashion_scenes
from crosshead.tasks.segment.labels.check import check_label_images
from crosshead.tasks.segment.labels.images import load_label_images
from crosshead.tasks.segment.labels.semantic import semantic_from_coco
from crosshead.tasks.segment.recipe import SegmentRecipe
from crosshead.tasks.task import DataError


def load_objects(recipe: DetectRecipe | SegmentRecipe, *, masks: bool) -> DetectionSplits:
    """The images with objects that a recipe names.

    Args:
        recipe: Of data in COCO format, or of scenes.
        masks: Whether objects need masks.

    Raises:
        RunError: If no folder is given, or it cannot be downloaded.
        DataError: If the folder does not hold what it should.
    """
    _require_folder(recipe)
    if recipe.data == "fashion-scenes":
        return load_fashion_scenes(recipe.data_dir, **_scenes(recipe))
    return load_coco(
        recipe.data_dir,
        masks=masks,
        train=recipe.train_split,
        test=recipe.test_split,
        in_chans=recipe.in_chans,
        skip_faulty=recipe.skip_faulty,
    )


def load_labels(recipe: SegmentRecipe) -> SegmentationSplits:
    """The images with a label for each pixel that a recipe names.

    Raises:
        RunError: If no folder is given, or it cannot be downloaded.
        DataError: If the folder does not hold what it should.
    """
    _require_folder(recipe)
    if recipe.data != "masks":
        return semantic_from_coco(load_objects(recipe, masks=True))
    return load_label_images(recipe.data_dir, in_chans=recipe.in_chans, **_label_images(recipe))


def check_dense(recipe: DetectRecipe | SegmentRecipe, *, masks: bool) -> Iterator[str]:
    """Everything that is wrong with the data of a recipe, a line each.

    Raises:
        RunError: If no folder is given.
    """
    _require_folder(recipe)
    if recipe.data == "fashion-scenes":
        try:
            load_objects(recipe, masks=masks)
        except DataError as error:
            yield str(error)
    elif isinstance(recipe, SegmentRecipe) and recipe.data == "masks":
        yield from check_label_images(recipe.data_dir, **_label_images(recipe))
    else:
        splits = {"train": recipe.train_split, "test": recipe.test_split}
        yield from check_coco(recipe.data_dir, masks=masks, **splits)


def _scenes(recipe: DetectRecipe | SegmentRecipe) -> dict[str, Any]:
    train, test = recipe.scenes
    return {"train": train, "test": test, "size": recipe.scene_size, "download": recipe.download}


def _label_images(recipe: SegmentRecipe) -> dict[str, Any]:
    return {
        "ignore_index": recipe.ignore_index,
        "reduce_zero_label": recipe.reduce_zero_label,
        "classes": recipe.class_names,
        "train": recipe.train_split,
        "test": recipe.test_split,
    }


def _require_folder(recipe: DetectRecipe | SegmentRecipe) -> None:
    if recipe.data_dir is None:
        raise RunError(f"{recipe.data} needs the folder of its images: name it with --data-dir")
    if recipe.download and recipe.data != "fashion-scenes":
        raise RunError(
            f"{recipe.data} cannot be downloaded: leave --download out and name the folder with --data-dir"
        )
