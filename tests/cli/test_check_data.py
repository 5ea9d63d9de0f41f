"""Damaged data of every task: `--check-data` lists each fault, `train` names the first and leaves nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

TINY = [
    *("--model-args", "stem_stride=1", "depths=[1,1,1,1]", "dims=[8,16,16,16]", "head_dim=8"),
    *("--epochs", "1", "--val-every", "1", "--batch-size", "4", "--threads", "1", "--accelerator", "cpu"),
]
RECIPES = {
    "nuclei": ["--pyramid-dim", "32", "--rois", "16"],
    "bccd": ["--pyramid-dim", "32", "--rois", "16"],
    "nuclei-semantic": ["--crop", "32"],
    "segment": ["--crop", "32", "--decoder", "fpn", "--decoder-dim", "64", "--workers", "0"],
    "change": ["--block", "10", "--crop", "16", "--crops", "8", "--tile", "24"],
}


def in_json(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """A damage to the json file of the training split."""

    def damage(root: Path) -> None:
        document = json.loads((root / "train.json").read_text())
        change(document)
        (root / "train.json").write_text(json.dumps(document))

    return damage


def annotation(number: int, **changes: Any) -> Callable[[Path], None]:
    return in_json(lambda document: document["annotations"][number - 1].update(changes))


def array(path: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """A damage to a .npy file or to an image of one band."""

    def damage(root: Path) -> None:
        if path.endswith(".npy"):
            np.save(root / path, change(np.load(root / path)))
        else:
            Image.fromarray(change(np.array(Image.open(root / path)))).save(root / path)

    return damage


def another_value(labels: np.ndarray) -> np.ndarray:
    labels[5, 6] = 77
    return labels


# What is done to a folder, the file that the complaint names, and what it says.
Fault = tuple[Callable[[Path], object], str, str]
BOXES: dict[str, Fault] = {
    "dangling image": (
        annotation(1, image_id=99),
        "train.json",
        "annotation 1: no image has its image_id 99",
    ),
    "dangling category": (
        annotation(2, category_id=5),
        "train.json",
        "annotation 2: no category has its category_id 5",
    ),
    "box outside": (
        annotation(3, bbox=[30, 5, 20, 10]),
        "train.json",
        "annotation 3 of image 2 (2.png): box [30, 5, 20, 10] reaches outside the image of 40 x 32 pixels",
    ),
    "box of no area": (
        annotation(4, bbox=[5, 5, 0, 10]),
        "train.json",
        "annotation 4 of image 4 (4.png): box [5, 5, 0, 10] has no area",
    ),
    "missing image": (
        lambda root: (root / "train" / "7.png").unlink(),
        "train/7.png",
        "no such image",
    ),
    "image of another size": (
        lambda root: Image.new("RGB", (41, 32)).save(root / "train" / "5.png"),
        "train/5.png",
        "41 x 32 pixels, and",
    ),
    "unreadable image": (
        lambda root: (root / "train" / "6.png").write_bytes(b"nothing"),
        "train/6.png",
        "not readable as an image",
    ),
}
MASKS: dict[str, Fault] = {
    **BOXES,
    # Annotation 8 lies in image 6, whose file another damage spoils: masks are looked at all the same.
    "mask of another size": (
        annotation(8, segmentation={"size": [10, 10], "counts": [50, 50]}),
        "train.json",
        "annotation 8 of image 6 (6.png): ",
    ),
}
LABELS: dict[str, Fault] = {
    "value without a class": (
        array("train/labels/2.png", another_value),
        "train/labels/2.png",
        "value 77 at column 6, row 5 is not a class",
    ),
    "labels of another size": (
        array("val/labels/3.png", lambda labels: labels[:-1]),
        "val/labels/3.png",
        "40 x 31",
    ),
    "missing label image": (
        lambda root: (root / "train" / "labels" / "4.png").unlink(),
        "train/images/4.png",
        "no label image",
    ),
    "missing image": (
        lambda root: (root / "train" / "images" / "5.png").unlink(),
        "train/labels/5.png",
        "no image of that name",
    ),
    "unreadable image": (
        lambda root: (root / "val" / "images" / "1.png").write_bytes(b"nothing"),
        "val/images/1.png",
        "not readable as an image",
    ),
}
PAIRS: dict[str, Fault] = {
    "date of another size": (
        array("after/field.npy", lambda bands: bands[:, :, :-2]),
        "after/field.npy",
        "38 x 40 pixels where",
    ),
    "date of other bands": (
        array("after/field.npy", lambda bands: bands[:2]),
        "after/field.npy",
        "bands 1, 2 where",
    ),
    "value without a class": (
        array("label/field.png", another_value),
        "label/field.png",
        "value 77 at row 5, column 6; 0 is unlabelled, 1..2 are classes",
    ),
    "labels of another size": (
        array("label/field.png", lambda labels: labels[1:]),
        "label/field.png",
        "40 x 39 pixels where",
    ),
    "missing date": (
        lambda root: (root / "after" / "field.npy").unlink(),
        "after",
        "no file of the pair field",
    ),
    "values that are not finite": (
        array("before/field.npy", lambda bands: np.where(bands > bands.max() - 1, np.nan, bands)),
        "before/field.npy",
        "values are not finite",
    ),
}
FAULTS = {"nuclei": MASKS, "bccd": BOXES, "segment": LABELS, "change": PAIRS}


@pytest.fixture
def sound(write_coco_data, write_label_data, write_pair_data, tmp_path) -> Callable[[str], Path]:
    """Makes a folder of data for a recipe, without fault."""

    def make(name: str) -> Path:
        write = {"segment": write_label_data, "change": write_pair_data}.get(name, write_coco_data)
        return write(tmp_path / "data")

    return make


@pytest.mark.parametrize("name", RECIPES)
def test_of_sound_data_it_is_said_what_there_is(crosshead, sound, name, tmp_path):
    root = sound(name)
    answer = crosshead("train", name, *RECIPES[name], "--data-dir", root, "--check-data")
    assert (answer.code, answer.err) == (0, "")
    first, splits, images, *classes = answer.out.splitlines()
    assert first == f"{root}: nothing wrong"
    assert splits.split() == ["train", "val", "test"]
    counts = {
        "change": ["pairs", "with", "labels", "1", "1", "1"],
    }.get(name, ["images", "8", "4", "4"])
    assert images.split() == counts
    kind = "objects" if name in ("nuclei", "bccd") else "pixels"
    named = {"change": ("unchanged", "changed")}.get(name, ("red", "blue"))
    for what in named:
        assert any(line.startswith(f"{kind} of {what} ") for line in classes)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["nuclei", "bccd", "segment"])
def test_every_fault_is_listed_in_a_line_of_its_own(crosshead, sound, name):
    root, faults = sound(name), FAULTS[name]
    for damage, _, _ in faults.values():
        damage(root)
    answer = crosshead("train", name, *RECIPES[name], "--data-dir", root, "--check-data")
    lines = answer.out.splitlines()
    for _, place, words in faults.values():
        assert sum(line.startswith(f"{root / place}: ") and words in line for line in lines) == 1, words
    assert len(lines) == len(faults)
    assert answer.code == 1
    assert answer.err == f"error: {root}: {len(faults)} faults, listed above: mend them\n"


@pytest.mark.parametrize(
    ("name", "fault"), [(name, fault) for name, faults in FAULTS.items() for fault in faults]
)
def test_a_single_fault_is_listed_and_refused_in_one_line(crosshead, sound, tmp_path, name, fault):
    root = sound(name)
    damage, place, words = FAULTS[name][fault]
    damage(root)
    answer = crosshead("train", name, *RECIPES[name], "--data-dir", root, "--check-data")
    assert answer.code == 1
    (line,) = answer.out.splitlines()
    assert line.startswith(f"{root / place}: ")
    assert words in line
    assert answer.err == f"error: {root}: 1 fault, listed above: mend them\n"
    answer = crosshead("train", name, *RECIPES[name], *TINY, "--data-dir", root)
    assert answer.code == 1
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert answer.err.startswith(f"error: {root / place}: ")
    assert words in answer.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"licenses": []}', "not a COCO file, it has no list 'images'"),
        (b"[1, 2]", "not a COCO file"),
        (b"<html>", "not json"),
        (b"", "not json"),
    ],
)
@pytest.mark.parametrize("extra", [[], ["--check-data"]])
def test_json_that_is_no_coco_is_told_from_coco(crosshead, sound, tmp_path, content, message, extra):
    root = sound("bccd")
    (root / "train.json").write_bytes(content)
    answer = crosshead("train", "bccd", *RECIPES["bccd"], *TINY, "--data-dir", root, *extra)
    assert answer.code == 1
    said = answer.out if extra else answer.err.removeprefix("error: ")
    assert said.startswith(f"{root / 'train.json'}: {message}")
    assert said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("extra", [[], ["--check-data"]])
def test_pairs_that_cannot_be_parted_are_told_with_the_class_that_lacks(crosshead, sound, tmp_path, extra):
    root = sound("change")
    answer = crosshead("train", "change", "--block", "50", "--data-dir", root, *extra)
    assert answer.code == 1
    said = answer.out if extra else answer.err
    assert str(root) in said
    assert said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("extra", [[], ["--check-data"]])
@pytest.mark.parametrize("name", RECIPES)
def test_a_folder_that_is_missing_or_not_named_is_told(crosshead, tmp_path, name, extra):
    answer = crosshead("train", name, *extra)
    assert answer.code == 1
    assert "needs the folder of its images: name it with --data-dir" in answer.err
    answer = crosshead("train", name, "--data-dir", tmp_path / "nowhere", *extra)
    assert answer.code == 1
    assert "nowhere: no such folder" in answer.out + answer.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize(("name", "place"), [("segment", "train/labels/4.png"), ("bccd", "train/6.png")])
def test_a_file_that_is_found_damaged_while_training_is_named(
    crosshead, sound, monkeypatch, name, place, workers
):
    from crosshead.runs import engine

    root, make = sound(name), engine._training

    def spoil(*arguments):
        (root / place).write_bytes(b"nothing")
        return make(*arguments)

    monkeypatch.setattr(engine, "_training", spoil)
    answer = crosshead("train", name, *RECIPES[name], *TINY, "--data-dir", root, "--workers", workers)
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    assert answer.err.startswith(f"error: {root / place}: not readable as a")
    assert "Traceback" not in answer.err
