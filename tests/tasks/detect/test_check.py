import json
import shutil

import pytest
from PIL import Image

from crosshead.tasks.detect.check import check_objects
from crosshead.tasks.detect.data import load_objects
from crosshead.tasks.detect.recipe import DetectRecipe
from crosshead.tasks.task import DataError

SQUARE = [[1, 1, 3, 1, 3, 3, 1, 3]]
EMPTY = {"size": [4, 6], "counts": [24]}


def recipe_of(root, **choices) -> DetectRecipe:
    """Without a validation set, unless it is asked for."""
    return DetectRecipe(
        **{"data": "folder", "data_dir": root, "model": "", "epochs": 1, "val": 0.0, **choices}
    )


def check(root, *, masks, **choices) -> list[str]:
    found = check_objects(recipe_of(root, **choices), masks=masks)
    return [fault for fault in found if isinstance(fault, str)]


def test_nothing_is_found_in_a_sound_set(write_coco, coco_document):
    root = write_coco(coco_document({"segmentation": SQUARE}, images=2))
    assert check(root, masks=True) == []


def test_everything_that_is_wrong_is_listed_a_line_each(write_coco, coco_document):
    train = coco_document(
        {"segmentation": SQUARE},
        {"segmentation": SQUARE, "image_id": 40},
        {"segmentation": SQUARE, "category_id": 40},
        {"segmentation": SQUARE, "bbox": [0, 0, 60, 2]},
        {"segmentation": EMPTY},
        {"segmentation": [[1, 1]], "image_id": 2, "area": -1},
        {"segmentation": {"size": [4, 6], "counts": "~"}, "image_id": 2},
        images=5,
    )
    root = write_coco(train, coco_document(categories=[{"id": 3, "name": "cow"}, {"id": 7, "name": "dog"}]))
    (root / "train" / "3.png").unlink()
    (root / "train" / "4.png").write_bytes(b"broken")
    Image.new("RGB", (9, 9)).save(root / "train" / "5.png")
    shutil.copy(root / "train" / "2.png", root / "val" / "1.png")
    expected = [
        ("train.json", "annotation 2: no image has its image_id 40"),
        ("train.json", "annotation 3: no category has its category_id 40"),
        ("train/3.png", "no such image file"),
        ("train.json", "annotation 4 of image 1 (1.png): box"),
        ("train.json", "annotation 6 of image 2 (2.png): area is -1"),
        ("train.json", "annotation 6 of image 2 (2.png): polygon of 1 points"),
        ("val.json", "category 3 is 'cow', and 'cat'"),
        ("train.json", "annotation 5 of image 1 (1.png): empty mask"),
        ("train.json", "annotation 7 of image 2 (2.png): mask cannot be decoded"),
        ("train/4.png", "not readable as an image"),
        ("train/5.png", "9 x 9 pixels"),
        ("val/1.png", f"byte for byte the same as {root}/train/2.png of the train split"),
    ]
    lines = check(root, masks=True)
    assert len(lines) == len(expected)
    for line, (place, words) in zip(lines, expected, strict=True):
        assert line.startswith(f"{root / place}: {words}")
        assert "\n" not in line
    with pytest.raises(DataError) as caught:
        load_objects(recipe_of(root), masks=True)
    assert str(caught.value) == lines[0]


def test_masks_are_left_alone_where_they_are_not_needed(write_coco, coco_document):
    root = write_coco(coco_document({"segmentation": EMPTY}, {}))
    assert check(root, masks=False) == []
    assert len(check(root, masks=True)) == 2


def test_an_image_in_both_splits_is_found(write_coco, coco_document):
    root = write_coco(coco_document())
    shutil.copy(root / "train.json", root / "val.json")
    (root / "images").mkdir()
    (root / "train" / "1.png").rename(root / "images" / "1.png")
    shutil.rmtree(root / "val")
    (line,) = check(root, masks=False)
    assert line.startswith(f"{root}/images/1.png: in both the train and the test split")


def test_all_three_splits_are_checked(write_coco, coco_document):
    root = write_coco(coco_document(), coco_document({"bbox": [1, 1, 0, 0]}))
    (root / "test").mkdir()
    document = coco_document({"iscrowd": 2}, categories=[{"id": 3, "name": "cat"}, {"id": 7, "name": "cow"}])
    (root / "test.json").write_text(json.dumps(document))
    shutil.copy(root / "val" / "1.png", root / "test" / "1.png")
    expected = [
        ("val.json", "annotation 1 of image 1 (1.png): box [1, 1, 0, 0] has no area"),
        ("test.json", "annotation 1 of image 1 (1.png): iscrowd is 2"),
        ("test.json", "category 7 is 'cow', and 'dog'"),
        ("test/1.png", f"byte for byte the same as {root}/val/1.png of the val split"),
    ]
    for line, (place, words) in zip(check(root, masks=False), expected, strict=True):
        assert line.startswith(f"{root / place}: {words}")


def test_a_broken_file_hides_nothing_of_the_other(write_coco, coco_document):
    root = write_coco(coco_document(), coco_document({"bbox": [1, 1, 0, 0]}))
    (root / "train.json").write_text("[")
    lines = check(root, masks=False)
    assert [line.partition(": ")[0] for line in lines] == [str(root / "train.json"), str(root / "val.json")]


def test_a_folder_without_splits_is_one_finding(tmp_path):
    (line,) = check(tmp_path, masks=False)
    assert line.startswith(f"{tmp_path}: no annotations; put a COCO json, a YOLO data.yaml")
