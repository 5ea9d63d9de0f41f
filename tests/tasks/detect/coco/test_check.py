import shutil

import pytest
from PIL import Image

from crosshead.tasks.detect.coco.check import check_coco
from crosshead.tasks.detect.coco.objects import load_coco
from crosshead.tasks.task import DataError

SQUARE = [[1, 1, 3, 1, 3, 3, 1, 3]]
EMPTY = {"size": [4, 6], "counts": [24]}


def test_nothing_is_found_in_a_sound_set(write_coco, coco_document):
    root = write_coco(coco_document({"segmentation": SQUARE}, images=2))
    assert list(check_coco(root, masks=True)) == []


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
        ("train/3.png", "no such image"),
        ("train.json", "annotation 4 of image 1 (1.png): box"),
        ("train.json", "annotation 6 of image 2 (2.png): area is -1"),
        ("train.json", "annotation 6 of image 2 (2.png): polygon of 1 points"),
        ("val.json", "category 3 is 'cow', and 'cat'"),
        ("train.json", "annotation 5 of image 1 (1.png): empty mask"),
        ("train.json", "annotation 7 of image 2 (2.png): mask cannot be decoded"),
        ("train/4.png", "not readable as an image"),
        ("train/5.png", "9 x 9 pixels"),
        ("val/1.png", f"byte for byte the same as {root}/train/2.png of the training split"),
    ]
    lines = list(check_coco(root, masks=True))
    assert len(lines) == len(expected)
    for line, (place, words) in zip(lines, expected, strict=True):
        assert line.startswith(f"{root / place}: {words}")
        assert "\n" not in line
    with pytest.raises(DataError) as caught:
        load_coco(root, masks=True)
    assert str(caught.value) == lines[0]


def test_masks_are_left_alone_where_they_are_not_needed(write_coco, coco_document):
    root = write_coco(coco_document({"segmentation": EMPTY}, {}))
    assert list(check_coco(root, masks=False)) == []
    assert len(list(check_coco(root, masks=True))) == 2


def test_an_image_in_both_splits_is_found(write_coco, coco_document):
    root = write_coco(coco_document())
    shutil.copy(root / "train.json", root / "val.json")
    (root / "images").mkdir()
    (root / "train" / "1.png").rename(root / "images" / "1.png")
    shutil.rmtree(root / "val")
    (line,) = check_coco(root, masks=False)
    assert line.startswith(f"{root}/images/1.png: in both the training and the test split")


def test_a_broken_file_hides_nothing_of_the_other(write_coco, coco_document):
    root = write_coco(coco_document(), coco_document({"bbox": [1, 1, 0, 0]}))
    (root / "train.json").write_text("[")
    lines = list(check_coco(root, masks=False))
    assert [line.partition(": ")[0] for line in lines] == [str(root / "train.json"), str(root / "val.json")]


def test_a_folder_without_splits_is_one_finding(tmp_path):
    (line,) = check_coco(tmp_path, masks=False)
    assert line.startswith(f"{tmp_path}: no annotations of the train split")
