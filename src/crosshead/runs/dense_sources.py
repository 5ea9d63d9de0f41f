"""From recipes of detection and segmentation to labelled images."""

from collections.abc import Iterator
from typing import Any

from crosshead import data
from crosshead.runs.detect.recipe import DetectRecipe
from crosshead.runs.folder import RunError
from crosshead.runs.segment.recipe import SegmentRecipe


def load_objects(recipe: DetectRecipe | SegmentRecipe, *, masks: bool) -> data.DetectionSplits:
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
        return data.load_fashion_scenes(recipe.data_dir, **_scenes(recipe))
    return data.load_coco(
        recipe.data_dir,
        masks=masks,
        train=recipe.train_split,
        test=recipe.test_split,
        in_chans=recipe.in_chans,
        skip_faulty=recipe.skip_faulty,
    )


def load_labels(recipe: SegmentRecipe) -> data.SegmentationSplits:
    """The images with a label for each pixel that a recipe names.

    Raises:
        RunError: If no folder is given, or it cannot be downloaded.
        DataError: If the folder does not hold what it should.
    """
    _require_folder(recipe)
    if recipe.data != "masks":
        return data.semantic_from_coco(load_objects(recipe, masks=True))
    return data.load_label_images(recipe.data_dir, in_chans=recipe.in_chans, **_label_images(recipe))


def check_dense(recipe: DetectRecipe | SegmentRecipe, *, masks: bool) -> Iterator[str]:
    """Everything that is wrong with the data of a recipe, a line each.

    Raises:
        RunError: If no folder is given.
    """
    _require_folder(recipe)
    if recipe.data == "fashion-scenes":
        try:
            load_objects(recipe, masks=masks)
        except data.DataError as error:
            yield str(error)
    elif isinstance(recipe, SegmentRecipe) and recipe.data == "masks":
        yield from data.check_label_images(recipe.data_dir, **_label_images(recipe))
    else:
        splits = {"train": recipe.train_split, "test": recipe.test_split}
        yield from data.check_coco(recipe.data_dir, masks=masks, **splits)


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
