import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faster_coco_eval import COCO
from faster_coco_eval.core import mask as codec
from PIL import Image

from crosshead.runs.load import load_run
from crosshead.tasks.detect.data import DetectMeta
from crosshead.tasks.detect.module import Detector
from crosshead.tasks.detect.predict import DetectResult, coco_file, predict_objects
from crosshead.tasks.pictures import class_colors
from crosshead.tasks.sources import Input, read_input
from crosshead.tasks.task import task_of

META = DetectMeta(
    classes=("red", "blue"),
    category_ids=(3, 7),
    masks=True,
    in_chans=3,
    mean=(0.4,) * 3,
    std=(0.3,) * 3,
    min_size=32,
    max_size=40,
)


class ByColor(torch.nn.Module):
    """Finds the red rectangle, of which it is sure, and the blue one, of which it is less so."""

    def __init__(self, *, masks: bool = True) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.masks, self.seen = masks, []

    def forward(self, images):
        (image,) = images
        self.seen.append(tuple(image.shape))
        found = []
        for label, band in ((1, 0), (2, 2)):
            mask = (image[band] > 0.5) & (image[2 - band] < 0.5)
            if mask.any():
                rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
                box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
                found.append((torch.tensor(box).float(), label, 1.0 - label / 4, mask))
        boxes, labels, scores, masks = zip(*found, strict=True) if found else ((), (), (), ())
        result = {
            "boxes": torch.stack(boxes) if boxes else torch.zeros(0, 4),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "scores": torch.tensor(scores),
        }
        if self.masks:
            whole = torch.stack(masks)[:, None] if masks else torch.zeros(0, 1, *image.shape[1:])
            result["masks"] = whole.bool()
        return [result]


def decoded(segmentation: Any) -> np.ndarray:
    return np.asarray(codec.decode({**segmentation, "counts": segmentation["counts"].encode()}))


def seen(path: Path, *, in_chans: int = 3) -> Input:
    return read_input(path, in_chans=in_chans, position=0)


@pytest.fixture
def flag(tmp_path) -> Path:
    """53 x 17 pixels with a red rectangle at the left and a blue one at the right."""
    pixels = np.full((17, 53, 3), 20, np.uint8)
    pixels[2:10, 3:8] = (250, 20, 20)
    pixels[9:16, 40:52] = (20, 20, 250)
    Image.fromarray(pixels).save(tmp_path / "flag.png")
    return tmp_path / "flag.png"


@pytest.fixture(scope="module")
def trained(dense_run):
    record, model = load_run(dense_run("masks"))
    # After so short a training no detection is sure enough for torchvision's own threshold.
    model.roi_heads.score_thresh = 0.0  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    return task_of("detect"), record, model


@pytest.mark.parametrize("tile", [0, 24])
def test_each_object_is_told_as_coco_does_whole_or_in_tiles(flag, tile):
    net = ByColor().eval()
    prediction = predict_objects(META, net, seen(flag), min_score=0.0, tile=tile)
    content = prediction.to_dict()
    assert content["image"] == str(flag)
    assert content["size"] == [53, 17]
    first, second = content["objects"]
    masks = [decoded(each.pop("segmentation")) for each in (first, second)]
    assert first == {"class": "red", "category_id": 3, "score": 0.75, "bbox": [3, 2, 5, 8]}
    assert second == {"class": "blue", "category_id": 7, "score": 0.5, "bbox": [40, 9, 12, 7]}
    for mask, (left, top, width, height) in zip(masks, (first["bbox"], second["bbox"]), strict=True):
        assert mask.shape == (17, 53)
        assert mask[int(top) : int(top + height), int(left) : int(left + width)].all()
        assert mask.sum() == width * height
    assert prediction.summary == "2 objects: red 1, blue 1"
    assert max(shape[2] for shape in net.seen) == (tile or 53)
    assert prediction.plot().width >= 53
    assert prediction.rows()[0] == {
        "image": str(flag),
        "class": "red",
        "score": 0.75,
        "left": 3,
        "top": 2,
        "width": 5,
        "height": 8,
    }


def test_a_net_without_masks_tells_of_boxes_alone(flag):
    prediction = predict_objects(META, ByColor(masks=False).eval(), seen(flag), min_score=0.0)
    assert [sorted(each) for each in prediction.to_dict()["objects"]] == [
        ["bbox", "category_id", "class", "score"]
    ] * 2


@pytest.mark.parametrize(
    ("min_score", "summary"),
    [
        (0.5, "2 objects: red 1, blue 1"),
        (0.6, "1 object: red 1"),
        (0.75, "1 object: red 1"),
        (1.0, "0 objects"),
    ],
)
def test_what_it_is_less_sure_of_is_left_out(flag, min_score, summary):
    assert predict_objects(META, ByColor().eval(), seen(flag), min_score=min_score).summary == summary


@pytest.mark.parametrize(("width", "widest"), [(60, 60), (61, 40)])
def test_images_much_larger_than_those_of_the_training_are_seen_in_tiles_unasked(tmp_path, width, widest):
    Image.new("RGB", (width, 30)).save(tmp_path / "wide.png")
    net = ByColor().eval()
    predict_objects(META, net, seen(tmp_path / "wide.png"))
    assert max(shape[2] for shape in net.seen) == widest


@pytest.mark.parametrize(("size", "mode"), [((17, 53), "RGB"), ((40, 32), "L"), ((90, 33), "RGBA")])
def test_a_trained_net_finds_objects_within_images_of_any_size_and_kind(trained, tmp_path, size, mode):
    job, record, model = trained
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(tmp_path / "image.png")
    inputs = [seen(tmp_path / "image.png")]
    (many,) = job.predict(record.recipe, record.meta, model, inputs, min_score=0.0)
    assert isinstance(many, DetectResult)
    assert len(many)
    for each in many.to_dict()["objects"]:
        left, top, width, height = each["bbox"]
        assert min(left, top, width, height) >= 0
        assert left + width <= size[0] + 0.01
        assert top + height <= size[1] + 0.01
        assert 0 <= each["score"] <= 1
        assert (each["class"], each["category_id"]) in (("red", 3), ("blue", 7))
        assert decoded(each["segmentation"]).shape == size[::-1]
    (none,) = job.predict(record.recipe, record.meta, model, inputs, min_score=1.0)
    assert none.to_dict()["objects"] == none.rows() == []
    assert none.plot().mode == "RGB"


def test_a_net_of_grey_images_takes_coloured_ones(dense_recipe, flag):
    recipe = dense_recipe("boxes", in_chans=1)
    job = task_of("detect")
    meta = job.data(recipe).meta
    assert meta.in_chans == 1
    (found,) = job.predict(
        recipe, meta, job.build(recipe, meta).eval(), [seen(flag, in_chans=1)], min_score=0.0
    )
    assert isinstance(found, DetectResult)
    assert len(found)
    assert all("segmentation" not in each for each in found.to_dict()["objects"])


def test_an_evaluation_shows_test_images_with_truth_and_prediction(dense_recipe):
    recipe = dense_recipe("masks")
    task = task_of("detect")
    data = task.data(recipe)
    module = Detector(ByColor(), classes=data.meta.classes, masks=True)
    (drawn,) = task.draw("run", recipe, data, data.meta, module)
    assert drawn.name == "examples"
    with Image.open(io.BytesIO(drawn.content)) as picture:
        assert picture.width > picture.height / len(data.test)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_score": 1.5}, "^min_score must be a number between 0 and 1; got 1.5$"),
        ({"min_score": -0.1}, "^min_score must be a number between 0 and 1; got -0.1$"),
        ({"tile": -1}, "^tile must be 1 pixel or more, or 0 to see images whole; got -1$"),
    ],
)
def test_options_out_of_their_range_are_refused(flag, options, message):
    with pytest.raises(ValueError, match=message):
        predict_objects(META, ByColor().eval(), seen(flag), **options)


def test_the_colours_of_classes_are_told_below_the_picture(flag):
    found = predict_objects(META, ByColor().eval(), seen(flag), min_score=0.0)
    none = predict_objects(META, ByColor().eval(), seen(flag), min_score=1.0)
    alone = dataclasses.replace(none, classes=("any",))
    assert none.plot().size == alone.plot().size
    assert found.plot().width == none.plot().width
    told = np.asarray(found.plot())[none.plot().height :]
    for name, color in class_colors(META.classes).items():
        assert (told == color).all(2).any(), name


def test_results_make_one_file_that_coco_reads(flag, tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "empty.png")
    net = ByColor().eval()
    results = [
        predict_objects(META, net, seen(path), min_score=0.0) for path in (flag, tmp_path / "empty.png", flag)
    ]
    content = coco_file(results)
    assert [(each["id"], each["width"], each["height"]) for each in content["images"]] == [
        (1, 53, 17),
        (2, 30, 20),
        (3, 53, 17),
    ]
    assert content["categories"] == [{"id": 3, "name": "red"}, {"id": 7, "name": "blue"}]
    assert [(each["id"], each["image_id"], each["category_id"]) for each in content["annotations"]] == [
        (1, 1, 3),
        (2, 1, 7),
        (3, 3, 3),
        (4, 3, 7),
    ]
    assert [each["area"] for each in content["annotations"]] == [40, 84, 40, 84]
    assert content["annotations"][0]["score"] == 0.75
    coco = COCO(content)
    assert coco.annToMask(coco.loadAnns(4)[0]).sum() == 84
