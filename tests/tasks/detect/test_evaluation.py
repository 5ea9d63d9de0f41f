"""COCO's rules, held against its evaluator reading files."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as rle

from crosshead.tasks.detect.evaluation import average_precision, precision_metric

CLASSES = ("cat", "dog", "unicorn")
SIDE = 160
LIMIT = 120


def scene(generator: np.random.Generator, image_id: int) -> tuple[dict, dict]:
    """Objects of all sizes, crowd regions too, and detections good and bad; in two images one is missing."""
    count = 0 if image_id == 0 else 12
    corner = generator.integers(0, 60, (count, 2))
    boxes = np.concatenate([corner, corner + generator.integers(4, 100, (count, 2))], 1).astype(np.float32)
    labels = generator.integers(1, 3, count)
    target = {
        "boxes": torch.from_numpy(boxes),
        "labels": torch.from_numpy(labels),
        "masks": torch.from_numpy(filled(boxes)),
        # Not that of the box: sizes have to go by what the labels say.
        "area": torch.from_numpy(1.4 * np.prod(boxes[:, 2:] - boxes[:, :2], 1)),
        "iscrowd": torch.from_numpy((np.arange(count) % 6 == 5).astype(np.int64)),
    }
    more = 0 if image_id == 1 else LIMIT + 20
    start = boxes[generator.integers(0, count, more)] if count else np.tile([[5, 5, 40, 40]], (more, 1))
    moved = np.clip(np.round(start + generator.normal(0, 3, start.shape)), 0, SIDE)
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
    found = {
        "boxes": torch.from_numpy(moved.astype(np.float32)),
        "labels": torch.from_numpy(generator.integers(1, 3, more)),
        "scores": torch.from_numpy(generator.permutation(more).astype(np.float32) / 1000),
        "masks": torch.from_numpy(filled(moved)).bool(),
    }
    return found, target


def filled(boxes: np.ndarray) -> np.ndarray:
    masks = np.zeros((len(boxes), SIDE, SIDE), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
        mask[top:bottom, left:right] = 1
    return masks


def entries(found: dict, image_id: int, first: int = 1) -> list[dict]:
    made = []
    for number, (left, top, right, bottom) in enumerate(found["boxes"].tolist()):
        code = rle.encode(np.asfortranarray(found["masks"][number].numpy().astype(np.uint8)))
        made.append(
            {
                "id": first + number,
                "image_id": image_id,
                "category_id": found["labels"][number].item(),
                "bbox": [left, top, right - left, bottom - top],
                "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
            }
        )
        if "scores" in found:
            made[-1]["score"] = found["scores"][number].item()
        else:
            made[-1] |= {"area": found["area"][number].item(), "iscrowd": found["iscrowd"][number].item()}
    return made


def by_file(scenes: list[tuple[dict, dict]], path: Path, *, kind: Literal["bbox", "segm"]) -> Any:
    document = {
        "images": [{"id": number, "height": SIDE, "width": SIDE} for number in range(len(scenes))],
        "categories": [{"id": label, "name": name} for label, name in enumerate(CLASSES, start=1)],
        "annotations": [],
    }
    detections = []
    for number, (found, target) in enumerate(scenes):
        document["annotations"] += entries(target, number, len(document["annotations"]) + 1)
        detections += entries(found, number)
    if kind == "bbox":
        detections = [{k: v for k, v in one.items() if k != "segmentation"} for one in detections]
    path.write_text(json.dumps(document))
    truth = COCO(str(path))
    evaluation = COCOeval_faster(truth, truth.loadRes(detections), iouType=kind)
    evaluation.params.maxDets = [1, 10, LIMIT]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def measured(scenes: list[tuple[dict, dict]], *, masks: bool):
    metric = precision_metric(masks=masks, max_detections=LIMIT)
    for found, target in scenes:
        metric.update([found], [target])
    return average_precision(metric, classes=CLASSES)


@pytest.mark.parametrize("masks", [False, True])
def test_figures_are_those_of_the_evaluator_that_reads_files(masks, tmp_path):
    generator = np.random.default_rng(0)
    scenes = [scene(generator, number) for number in range(6)]
    results = measured(scenes, masks=masks)
    assert sorted(results) == (["box", "mask"] if masks else ["box"])
    for name, result in results.items():
        kind = "bbox" if name == "box" else "segm"
        expected = by_file(scenes, tmp_path / "truth.json", kind=kind)
        sizes = [result.small, result.medium, result.large]
        figures = [result.ap, result.ap50, result.ap75, *sizes, *result.recall.values()]
        assert figures == pytest.approx(expected.stats[:9].tolist(), abs=1e-6)
        assert len(set(figures)) == len(figures)
        assert list(result.recall) == [1, 10, LIMIT]
        single = expected.eval["precision"][:, :, :, 0, -1].mean((0, 1))
        assert [result.per_class["cat"], result.per_class["dog"]] == pytest.approx(single[:2].tolist())
        assert result.per_class["unicorn"] is None


def test_crowds_are_neither_missed_nor_false():
    _, target = scene(np.random.default_rng(1), 2)
    perfect = {**target, "scores": torch.ones(len(target["labels"]))}
    assert measured([(perfect, target)], masks=True)["box"].ap == pytest.approx(1)
    without = {key: value[target["iscrowd"] == 0] for key, value in perfect.items()}
    assert measured([(without, target)], masks=True)["mask"].ap == pytest.approx(1)


def test_detections_beyond_a_hundred_count():
    corner = torch.arange(LIMIT).float()[:, None].repeat(1, 2)
    boxes = torch.cat([corner, corner + 1], 1)
    labels = torch.ones(LIMIT, dtype=torch.int64)
    found = {"boxes": boxes, "labels": labels, "scores": torch.linspace(0.9, 0.1, LIMIT)}
    result = measured([(found, {"boxes": boxes, "labels": labels})], masks=False)["box"]
    assert result.ap == pytest.approx(1)
    assert result.recall == {1: pytest.approx(1 / LIMIT), 10: pytest.approx(10 / LIMIT), LIMIT: 1.0}


def test_an_overlap_of_exactly_a_threshold_counts():
    # Three fifths: found at 0.5, 0.55 and 0.6, missed at the other seven.
    labels = torch.ones(1, dtype=torch.int64)
    found = {"boxes": torch.tensor([[0.0, 0.0, 3.0, 8.0]]), "labels": labels, "scores": torch.ones(1)}
    target = {"boxes": torch.tensor([[0.0, 0.0, 5.0, 8.0]]), "labels": labels}
    assert measured([(found, target)], masks=False)["box"].ap == pytest.approx(0.3)


@pytest.mark.parametrize("images", [0, 1])
def test_where_there_is_nothing_to_find_there_is_no_figure(images):
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    found = {**nothing, "scores": torch.zeros(0)}
    result = measured([(found, nothing)] * images, masks=False)["box"]
    assert (result.ap, result.ap50, result.small, result.per_class["cat"]) == (None, None, None, None)
    assert result.recall == {1: None, 10: None, LIMIT: None}


def test_a_class_without_objects_does_not_lower_the_mean():
    box = torch.tensor([[0.0, 0.0, 5.0, 8.0]])
    found = {"boxes": box.repeat(2, 1), "labels": torch.tensor([1, 2]), "scores": torch.ones(2)}
    result = measured([(found, {"boxes": box, "labels": torch.tensor([1])})], masks=False)["box"]
    assert result.ap == pytest.approx(1)
    assert result.per_class == {"cat": pytest.approx(1), "dog": None, "unicorn": None}
    assert (result.small, result.large) == (pytest.approx(1), None)


def test_too_few_detections_to_tell_recall_are_refused():
    with pytest.raises(ValueError, match=r"max_detections must be above 10, .*; got 10"):
        precision_metric(masks=False, max_detections=10)
