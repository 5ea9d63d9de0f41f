"""Which format is taken, and the splits that are made where a data set has none."""

import json
import shutil
from typing import Any

import pytest
from PIL import Image

from crosshead.tasks.counts import Counts
from crosshead.tasks.detect.check import check_objects
from crosshead.tasks.detect.data import load_objects
from crosshead.tasks.detect.formats import find_annotations, formats_in
from crosshead.tasks.detect.recipe import DetectRecipe


def recipe_of(root, **choices) -> DetectRecipe:
    return DetectRecipe(**{"data": "folder", "data_dir": root, "model": "", "epochs": 1, **choices})


def load(root, *, masks=False, **choices) -> Any:
    return load_objects(recipe_of(root, **choices), masks=masks)


def counts_of(root, **choices) -> Counts:
    *faults, counts = check_objects(recipe_of(root, **choices), masks=False)
    assert faults == []
    assert isinstance(counts, Counts)
    return counts


@pytest.fixture
def write_single(tmp_path):
    """Writes a document without splits, and its images, 6 x 4 pixels, into a folder."""

    def write(document, *, json_file="annotations.json", folder="images"):
        root = tmp_path / "set"
        for place in ((root / json_file).parent, root / folder):
            place.mkdir(parents=True, exist_ok=True)
        for entry in document["images"]:
            Image.new("RGB", (6, 4), (entry["id"], 0, 0)).save(root / folder / f"{entry['id']}.png")
        (root / json_file).write_text(json.dumps(document))
        return root

    return write


def spread_over(document, count):
    """The same object in each of the first `count` images."""
    first = document["annotations"][0]
    document["annotations"] = [{**first, "id": number, "image_id": number} for number in range(1, count + 1)]
    return document


@pytest.mark.parametrize(
    ("json_file", "folder"),
    [
        ("annotations.json", "images"),
        ("annotations/instances_default.json", "images"),
        ("result.json", "images"),
        ("_annotations.coco.json", "."),
    ],
)
def test_one_json_without_splits_is_dealt_out_by_fractions(write_single, coco_document, json_file, folder):
    root = write_single(spread_over(coco_document({}, images=40), 20), json_file=json_file, folder=folder)
    (root / "notes.json").write_text("{}")
    data = load(root, val=0.25, test=0.2)
    parts = {name: {o.image_id for _, o in getattr(data, name)} for name in ("train", "val", "test")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 24, "val": 8, "test": 8}
    assert set.union(*parts.values()) == set(range(1, 41))
    # With and without objects in proportion, and the test is the same for every seed.
    assert sum(number <= 20 for number in parts["test"]) == 4
    other = load(root, val=0.25, test=0.2, seed=1)
    assert {objects.image_id for _, objects in other.test} == parts["test"]
    assert {objects.image_id for _, objects in other.val} != parts["val"]


def test_images_of_too_few_of_a_class_are_dealt_out_at_random(write_single, coco_document):
    root = write_single(spread_over(coco_document({}, images=10), 1))
    data = load(root)
    assert (len(data.train), len(data.val), len(data.test)) == (7, 1, 2)


def test_a_set_too_small_to_be_dealt_out_is_refused(write_single, coco_document, refused):
    root = write_single(coco_document({}))
    refused(lambda: load(root), "1 training samples are too few", "20% of each class back for the test")


def test_roboflows_placeholder_is_no_class(write_coco, coco_document):
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 3, "name": "cat", "supercategory": "pets"},
        {"id": 7, "name": "dog", "supercategory": "pets"},
    ]
    root = write_coco(coco_document({"category_id": 7}, images=4, categories=categories))
    for old, new in (("train", "train"), ("val", "valid")):
        if old != new:
            (root / old).rename(root / new)
        (root / f"{old}.json").rename(root / new / "_annotations.coco.json")
    data = load(root, val=0.25)
    assert data.meta.classes == ("cat", "dog")
    assert {label for _, objects in data.train for label in objects.labels.tolist()} <= {2}
    # What is annotated is a class, whatever it is called.
    path = root / "train" / "_annotations.coco.json"
    path.write_text(path.read_text().replace('"category_id": 7', '"category_id": 0'))
    shutil.copy(path, root / "valid" / path.name)
    found = find_annotations(recipe_of(root))["train"](masks=False)
    assert list(found.categories.values()) == ["pets", "cat", "dog"]


@pytest.mark.parametrize(
    "name",
    [
        "images/{}.png",
        "../../data/upload/1/{}.png",
        "/elsewhere/set/images/{}.png",
        "images\\{}.png",
        "/data/local-files/?d=set/{}.png",
    ],
)
def test_images_are_found_under_names_of_another_machine(write_single, coco_document, name):
    document = coco_document({}, images=3)
    root = write_single(document, json_file="result.json")
    for entry in document["images"]:
        entry["file_name"] = name.format(entry["id"])
    (root / "result.json").write_text(json.dumps(document))
    found = find_annotations(recipe_of(root))["train"](masks=False)
    assert found.findings == []
    assert [image.path for image in found.images] == [root / f"images/{number}.png" for number in (1, 2, 3)]


def test_two_entries_of_one_image_are_a_finding(write_single, coco_document):
    document = coco_document({}, images=2)
    root = write_single(document)
    document["images"][1]["file_name"] = "a/1.png"
    (root / "annotations.json").write_text(json.dumps(document))
    (finding,) = find_annotations(recipe_of(root))["train"](masks=False).findings
    assert finding.startswith(f"{root}/annotations.json: image 2 (a/1.png) is the file of image 1 as well")


def test_sizes_that_a_json_does_not_give_are_measured(write_single, coco_document):
    document = coco_document({}, images=3)
    for entry in document["images"]:
        del entry["width"], entry["height"]
    data = load(write_single(document), val=0.0)
    assert (data.meta.min_size, data.meta.max_size) == (4, 6)


def test_texts_for_ids_are_one_line(write_single, coco_document, refused):
    document = coco_document({}, images=3)
    for entry in document["images"]:
        entry["id"] = f"image-{entry['id']}"
    root = write_single(coco_document({}, images=3))
    (root / "annotations.json").write_text(json.dumps(document))
    words = "ids of image entries are texts, such as 'image-1', and COCO has integers"
    refused(lambda: load(root), root / "annotations.json", words)
    (line,) = check_objects(recipe_of(root), masks=False)
    assert words in str(line)


def test_boxes_a_little_outside_are_clipped_and_counted(write_single, coco_document, caplog):
    boxes = ([-1.5, 2, 10, 5], [95, 50, 8, 12], [-0.5, 0, 3, 3])
    document = coco_document(*({"bbox": box} for box in boxes), images=3)
    root = write_single(document)
    for entry in document["images"]:
        entry.update(width=100, height=60)
        Image.new("RGB", (100, 60), (entry["id"], 0, 0)).save(root / "images" / entry["file_name"])
    (root / "annotations.json").write_text(json.dumps(document))
    found = find_annotations(recipe_of(root))["train"](masks=False)
    assert found.faulty == []
    assert found.images[0].objects.boxes.tolist() == [[0, 2, 8.5, 7], [95, 50, 100, 60], [0, 0, 2.5, 3]]
    load(root, val=0.0)
    line = "2 boxes reach outside the image by up to 5% of its side; clipped"
    assert f"{root}/annotations.json: {line}" in caplog.text
    assert counts_of(root, val=0.0).lines()[-1] == line


def test_the_counts_are_those_of_the_splits_that_are_trained_on(write_single, coco_document):
    counts = counts_of(write_single(spread_over(coco_document({}, images=40), 20)), val=0.25)
    assert counts.lines() == [
        "                        train  val  test",
        "images                     24    8     8",
        "images without objects     12    4     4",
        "objects of cat             12    4     4",
        "objects of dog              0    0     0",
    ]


def test_two_formats_in_a_folder_are_to_be_told_apart(write_single, coco_document, refused):
    root = write_single(coco_document({}, images=5))
    (root / "data.yaml").write_text("train: images\nnames: [cat]\n")
    (root / "labels").mkdir()
    (root / "labels" / "1.txt").write_text("0 .5 .5 .5 .5")
    assert formats_in(root) == ["coco", "yolo"]
    refused(lambda: load(root), root, "annotations in several formats, coco, yolo; say which with --format")
    assert load(root, format="yolo").meta.classes == ("cat",)
    assert load(root, format="coco").meta.classes == ("cat", "dog")


def test_a_folder_without_annotations_is_told_what_is_read(tmp_path, refused):
    refused(lambda: load(tmp_path), tmp_path, "no annotations; put a COCO json", "data.yaml")
    (tmp_path / "cells.zip").touch()
    refused(lambda: load(tmp_path), tmp_path, "or unpack cells.zip")


def test_what_tools_leave_beside_images_is_no_annotation(write_single, coco_document):
    root = write_single(coco_document({}, images=5))
    for name in ("1.png.aux.xml", "._1.xml"):
        (root / "images" / name).write_text("<PAMDataset/>")
    assert formats_in(root) == ["coco"]
