import os
import shutil

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.counts import Counts
from crosshead.tasks.segment.check import check_label_images
from crosshead.tasks.segment.data import load_label_images
from crosshead.tasks.task import DataError

MAP = [[0, 1, 255], [2, 1, 0]]


@pytest.fixture
def check(recipe_of):
    def call(root) -> list[str]:
        return [found for found in check_label_images(recipe_of(root)) if isinstance(found, str)]

    return call


def test_nothing_is_found_in_sound_folders(write_labels, check):
    assert check(write_labels(train={"a": MAP}, val={"cc": MAP})) == []
    assert check(write_labels(train={"a": MAP}, val={"cc": MAP}, test={"d" * 40: MAP})) == []


def test_everything_that_is_wrong_is_listed_a_line_each(write_labels, check, recipe_of):
    root = write_labels(train=dict.fromkeys("abcdefg", MAP), val=dict.fromkeys(["aa", "bb"], MAP))
    (root / "classes.txt").write_text("x\ny\nz\n")
    (root / "train" / "images" / "a.jpg").unlink()
    (root / "train" / "labels" / "b.png").unlink()
    (root / "train" / "images" / "c.jpg").write_bytes(b"broken")
    (root / "train" / "labels" / "d.png").write_bytes(b"broken")
    Image.new("RGB", (3, 2), (1, 2, 3)).save(root / "train" / "labels" / "e.png")
    (root / "train" / "images" / "g.jpg").unlink()
    os.mkfifo(root / "train" / "images" / "g.jpg")
    Image.new("L", (2, 4)).save(root / "val" / "labels" / "aa.png")
    shutil.copy(root / "train" / "images" / "f.jpg", root / "val" / "images" / "ccccc.jpg")
    shutil.copy(root / "train" / "labels" / "f.png", root / "val" / "labels" / "ccccc.png")
    Image.fromarray(np.array([[0, 3, 0]] * 2, np.uint8)).save(root / "val" / "labels" / "bb.png")
    expected = [
        ("train/images/g.jpg", "not a regular file"),
        ("train/images/b.jpg", "no label image"),
        ("train/images/c.jpg", "not readable as an image"),
        ("train/labels/d.png", "not readable as a label image"),
        ("train/labels/a.png", "no image of that name"),
        ("train/labels/g.png", "no image of that name"),
        ("val/labels/aa.png", "2 x 4 pixels, and"),
        ("train/labels/e.png", "colours, and no colour map in the folder"),
        ("val/labels/bb.png", "value 3 at column 1, row 0"),
        ("val/images/ccccc.jpg", "byte for byte the same as"),
    ]
    lines = check(root)
    assert len(lines) == len(expected)
    for line, (place, words) in zip(lines, expected, strict=True):
        assert line.startswith(f"{root / place}: {words}")
        assert "\n" not in line
    with pytest.raises(DataError) as caught:
        load_label_images(recipe_of(root))
    assert str(caught.value) == lines[0]


def test_an_image_of_any_two_splits_is_found(write_labels, check):
    root = write_labels(train={"a": MAP}, val={"bb": MAP}, test={"cc": MAP})
    assert check(root) == [
        f"{root}/test/images/cc.jpg: byte for byte the same as {root}/val/images/bb.jpg of the val split; "
        "leave one of them out"
    ]


def test_without_classes_files_are_looked_at_all_the_same_and_named_once(write_labels, check):
    root = write_labels(train={"a": MAP, "b": MAP}, val={"cc": MAP})
    path = root / "train" / "labels" / "a.png"
    path.write_bytes(path.read_bytes()[:50])
    Image.new("L", (2, 3)).save(root / "val" / "labels" / "cc.png")
    assert [line.partition(": ")[0] for line in check(root)] == [
        str(path),
        str(root / "val" / "labels" / "cc.png"),
    ]


def test_the_pixels_of_each_class_are_counted_by_split(write_labels, recipe_of):
    root = write_labels(train={"a" * number: MAP for number in range(1, 6)})
    *faults, counts = check_label_images(recipe_of(root, val=0.25))
    assert faults == []
    assert isinstance(counts, Counts)
    assert counts.lines() == [
        "             train  val  test",
        "images           3    1     1",
        "pixels of 0      6    2     2",
        "pixels of 1      6    2     2",
        "pixels of 2      3    1     1",
    ]


def test_a_folder_without_a_layout_is_one_finding(tmp_path, check):
    (line,) = check(tmp_path)
    assert line.startswith(f"{tmp_path}: no train split")
    assert check(tmp_path / "none") == [
        f"{tmp_path / 'none'}: no such folder; give --data-dir a folder that exists"
    ]


def test_no_folder_and_a_download_are_refused(check, recipe_of, refused):
    refused(lambda: check(None), "segment needs the folder of its images: name it with --data-dir")
    refused(lambda: load_label_images(recipe_of(None)), "segment needs the folder")
    refused(lambda: load_label_images(recipe_of("x", download=True)), "segment cannot be downloaded")
