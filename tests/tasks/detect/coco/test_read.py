import json
import os

import pytest

from crosshead.tasks.detect import annotated
from crosshead.tasks.detect.coco.layout import find_coco
from crosshead.tasks.detect.coco.read import read_coco
from crosshead.tasks.task import DataError


@pytest.fixture
def read(write_coco):
    def call(document, *, masks=False):
        return read_coco(find_coco(write_coco(document))["train"], masks=masks)

    return call


def test_labels_follow_the_numbers_of_the_categories_not_their_order(read, coco_document):
    file = read(coco_document({"category_id": 7}, {"category_id": 3}, {"category_id": 7}))
    assert list(file.categories.items()) == [(3, "cat"), (7, "dog")]
    assert file.images[0].objects.labels.tolist() == [2, 1, 2]
    assert file.images[0].annotation_ids == (1, 2, 3)


def test_objects_go_to_their_images_and_an_image_may_have_none(read, coco_document):
    file = read(coco_document({"image_id": 3}, {"image_id": 1}, {"image_id": 3}, images=3))
    assert [len(image.objects) for image in file.images] == [1, 0, 2]
    assert [image.objects.image_id for image in file.images] == [1, 2, 3]
    assert [image.path.name for image in file.images] == ["1.png", "2.png", "3.png"]
    assert (file.findings, file.faulty) == ([], [])


def test_crowds_and_areas_are_kept_and_a_missing_area_is_the_boxs(read, coco_document):
    objects = read(coco_document({"iscrowd": 1, "area": 3.5}, {"iscrowd": 0}, {})).images[0].objects
    assert objects.crowd.tolist() == [True, False, False]
    assert objects.area.tolist() == [3.5, 4, 4]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not json", "not json"),
        (b"\xff\xfe\x00", "not json"),
        (b"[" * 100_000, "not json"),
        (b'{"images": [' + b'{"a": ' * 100_000, "not json"),
        (b'{"images": ' + b"9" * 5000 + b"}", "not json"),
        (b"[]", "not a COCO file, it has no list 'images'"),
        (b'{"images": [], "annotations": []}', "it has no list 'categories'"),
        (b'{"images": [], "annotations": {}, "categories": []}', "it has no list 'annotations'"),
        (b'{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "images is empty"),
        (b'{"images": [{}], "annotations": [], "categories": []}', "categories is empty"),
    ],
)
def test_a_file_that_is_not_coco_is_refused(write_coco, coco_document, refused, content, words):
    root = write_coco(coco_document())
    (root / "train.json").write_bytes(content)
    refused(lambda: read_coco(find_coco(root)["train"], masks=False), root / "train.json", words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"image_id": 9},
            "annotation 1: no image has its image_id 9; correct it or leave",
        ),
        ({"image_id": "1"}, "annotation 1: no image has its image_id '1'"),
        ({"category_id": 1}, "annotation 1: no category has its category_id 1"),
        ({"category_id": "3"}, "annotation 1: no category has its category_id '3'"),
        ({"category_id": 3.0}, "annotation 1: no category has its category_id 3.0"),
        ({"category_id": [3]}, "annotation 1: no category has its category_id [3]"),
        ({"id": 2}, "annotation 2 is there twice"),
    ],
)
def test_ids_that_dangle_or_repeat_are_findings(read, coco_document, changes, words):
    file = read(coco_document(changes, {}))
    (finding,) = file.findings
    assert finding.startswith(f"{file.path}: {words}")
    assert len(file.images[0].objects) == 1


def test_a_missing_image_is_a_finding(write_coco, coco_document):
    root = write_coco(coco_document(images=3))
    (root / "train" / "2.png").unlink()
    file = read_coco(find_coco(root)["train"], masks=False)
    assert file.findings == [
        f"{root}/train/2.png: no such image file, though {root}/train.json lists it as image 2; "
        "put it there or take its entry out"
    ]
    assert len(file.images) == 2


def test_faults_of_objects_name_file_annotation_and_image(read, coco_document):
    file = read(coco_document({}, {"bbox": [1, 1, 0, 2], "area": -2}, {"segmentation": [[1]]}), masks=False)
    named = f"{file.path}: annotation 2 of image 1 (1.png): "
    assert file.faulty == [
        f"{named}box [1, 1, 0, 2] has no area; draw it or leave the annotation out",
        f"{named}area is -2; give it in pixels, or leave it out",
    ]
    assert file.images[0].annotation_ids == (1, 3)


def test_numbers_that_no_float_holds_are_faults_of_one_line(read, coco_document):
    huge = {"bbox": [0, 0, 10**400, 2], "area": 10**400, "segmentation": [[1, 1, 3, 10**400, 3, 3]]}
    file = read(coco_document({"segmentation": [[1, 1, 3, 1, 3, 3]]}, huge), masks=True)
    assert [line.partition(": ")[0] for line in file.faulty] == [str(file.path)] * 3
    assert all("annotation 2 of image 1" in line and len(line) < 400 for line in file.faulty)
    assert len(file.images[0].objects) == 1


@pytest.mark.parametrize("depth", [100, 900, 960, 975, 990])
def test_values_nested_deeply_are_a_fault_or_refused(write_coco, coco_document, depth):
    root = write_coco(coco_document())
    document = json.dumps(coco_document({"bbox": 0, "image_id": 1}))
    (root / "train.json").write_text(document.replace('"bbox": 0', f'"bbox": {"[" * depth}{"]" * depth}'))
    try:
        (line,) = read_coco(find_coco(root)["train"], masks=True).faulty[:1]
    except DataError as error:
        line = str(error)
    assert "box is [[" in line or "not json" in line
    assert len(line) < 400


def test_masks_of_a_crowd_too_large_for_memory_are_a_finding(read, coco_document, monkeypatch):
    monkeypatch.setattr(annotated, "MOST_MASK_BYTES", 3 * 24)
    square = {"segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]]}
    assert read(coco_document(*[square] * 3), masks=True).findings == []
    assert read(coco_document(*[square] * 4)).findings == []
    file = read(coco_document(*[square] * 4), masks=True)
    (finding,) = file.findings
    assert finding.startswith(f"{file.path.parent}/train/1.png: masks of 4 objects in 6 x 4 pixels need more")
    assert "cut the image up" in finding


def test_a_hundred_thousand_masks_are_refused_before_one_is_decoded(write_coco, coco_document):
    square = {"segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]]}
    document = coco_document(*[square] * 100_000)
    document["images"][0].update(width=2000, height=2000)
    file = read_coco(find_coco(write_coco(document))["train"], masks=True)
    assert "masks of 100000 objects in 2000 x 2000 pixels need more than 2 GiB" in file.findings[0]


def test_an_image_that_is_a_pipe_is_not_waited_for(write_coco, coco_document):
    root = write_coco(coco_document(images=2))
    (root / "train" / "2.png").unlink()
    os.mkfifo(root / "train" / "2.png")
    file = read_coco(find_coco(root)["train"], masks=False)
    assert file.findings[0].startswith(f"{root}/train/2.png: no such image file")


def test_nan_in_json_is_not_a_number(write_coco, coco_document):
    root = write_coco(coco_document())
    document = coco_document({"bbox": [float("nan"), 1, 2, 2]})
    (root / "train.json").write_text(json.dumps(document))
    assert "NaN" in (root / "train.json").read_text()
    assert "four finite numbers" in read_coco(find_coco(root)["train"], masks=False).faulty[0]
