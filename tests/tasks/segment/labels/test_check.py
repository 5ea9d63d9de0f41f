import shutil

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.segment.labels.check import check_label_images
from crosshead.tasks.segment.labels.images import load_label_images
from crosshead.tasks.task import DataError

MAP = [[0, 1, 255], [2, 1, 0]]


def test_nothing_is_found_in_sound_folders(write_labels):
    assert list(check_label_images(write_labels(train={"a": MAP}, val={"cc": MAP}))) == []


def test_everything_that_is_wrong_is_listed_a_line_each(write_labels):
    root = write_labels(train=dict.fromkeys("abcdef", MAP), val=dict.fromkeys(["aa", "bb"], MAP))
    (root / "classes.txt").write_text("x\ny\nz\n")
    (root / "train" / "images" / "a.jpg").unlink()
    (root / "train" / "labels" / "b.png").unlink()
    (root / "train" / "images" / "c.jpg").write_bytes(b"broken")
    (root / "train" / "labels" / "d.png").write_bytes(b"broken")
    Image.new("RGB", (3, 2)).save(root / "train" / "labels" / "e.png")
    Image.new("L", (2, 3)).save(root / "val" / "labels" / "aa.png")
    shutil.copy(root / "train" / "images" / "f.jpg", root / "val" / "images" / "ccccc.jpg")
    shutil.copy(root / "train" / "labels" / "f.png", root / "val" / "labels" / "ccccc.png")
    Image.fromarray(np.array([[0, 3, 0]] * 2, np.uint8)).save(root / "val" / "labels" / "bb.png")
    expected = [
        ("train/images/b.jpg", "no label image"),
        ("train/labels/a.png", "no image of that name"),
        ("train/images/c.jpg", "not readable as an image"),
        ("train/labels/d.png", "not readable as a label image"),
        ("train/labels/e.png", "mode RGB, not labels"),
        ("val/labels/aa.png", "2 x 3 pixels, and"),
        ("val/labels/bb.png", "value 3 at column 1, row 0"),
        ("val/images/ccccc.jpg", "byte for byte the same as"),
    ]
    lines = list(check_label_images(root))
    assert len(lines) == len(expected)
    for line, (place, words) in zip(lines, expected, strict=True):
        assert line.startswith(f"{root / place}: {words}")
        assert "\n" not in line
    with pytest.raises(DataError) as caught:
        load_label_images(root)
    assert str(caught.value) == lines[0]


def test_without_classes_files_are_looked_at_all_the_same_and_named_once(write_labels):
    root = write_labels(train={"a": MAP, "b": MAP}, val={"cc": MAP})
    Image.new("RGB", (3, 2)).save(root / "train" / "labels" / "a.png")
    Image.new("L", (2, 3)).save(root / "val" / "labels" / "cc.png")
    lines = list(check_label_images(root))
    assert [line.partition(": ")[0] for line in lines] == [
        str(root / "train" / "labels" / "a.png"),
        str(root / "val" / "labels" / "cc.png"),
    ]


def test_a_folder_without_a_layout_is_one_finding(tmp_path):
    (line,) = check_label_images(tmp_path)
    assert line.startswith(f"{tmp_path}: no train split")
