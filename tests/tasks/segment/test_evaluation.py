import math
from typing import Any

import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_jaccard_index,
)

from crosshead.tasks.segment.evaluation import SegmentEvaluation, SegmentMetrics

CLASSES = ("sky", "sea", "sand", "ship")


def test_metrics_agree_with_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(4, (2, 30, 40), generator=generator)
    predicted = torch.where(torch.rand(truth.shape, generator=generator) < 0.7, truth, truth.flip(-1))
    truth[0, :9] = 255
    options: Any = {"num_classes": 4, "ignore_index": 255}
    found = SegmentMetrics.of(multiclass_confusion_matrix(predicted, truth, **options), CLASSES)

    def close(value: float, expected: torch.Tensor) -> bool:
        return value == pytest.approx(expected.item(), abs=1e-6)

    assert close(found.mean_iou, multiclass_jaccard_index(predicted, truth, average="macro", **options))
    assert close(found.pixel_accuracy, multiclass_accuracy(predicted, truth, average="micro", **options))
    assert close(found.mean_accuracy, multiclass_accuracy(predicted, truth, average="macro", **options))
    each = multiclass_jaccard_index(predicted, truth, average="none", **options)
    assert list(found.per_class_iou) == list(CLASSES)
    assert list(found.per_class_iou.values()) == pytest.approx(each.tolist(), abs=1e-6)
    f1 = multiclass_f1_score(predicted, truth, average="none", **options)
    assert list(found.per_class_dice.values()) == pytest.approx(f1.tolist(), abs=1e-6)


def test_a_class_that_occurs_nowhere_has_no_value_and_no_weight():
    found = SegmentMetrics.of(torch.tensor([[6, 2, 0], [0, 4, 0], [0, 0, 0]]), ("sky", "sea", "ship"))
    assert found.per_class_iou == {"sky": 0.75, "sea": pytest.approx(4 / 6), "ship": None}
    assert found.per_class_dice == {"sky": pytest.approx(12 / 14), "sea": 0.8, "ship": None}
    assert found.mean_iou == pytest.approx((0.75 + 4 / 6) / 2)
    assert found.mean_accuracy == pytest.approx((6 / 8 + 1) / 2)
    assert found.confusion == [[6, 2, 0], [0, 4, 0], [0, 0, 0]]


def test_a_class_that_is_only_predicted_counts_as_wholly_wrong():
    found = SegmentMetrics.of(torch.tensor([[5, 5], [0, 0]]), ("sky", "ship"))
    assert found.per_class_iou == {"sky": 0.5, "ship": 0.0}
    assert found.mean_iou == 0.25
    assert found.mean_accuracy == 0.5


def test_without_a_labelled_pixel_means_are_nan():
    found = SegmentMetrics.of(torch.zeros(2, 2, dtype=torch.long), ("sky", "sea"))
    assert math.isnan(found.mean_iou)
    assert math.isnan(found.pixel_accuracy)
    assert found.per_class_iou == {"sky": None, "sea": None}


def test_names_must_fit_the_matrix():
    with pytest.raises(ValueError, match=r"must be \(3, 3\) for 3 classes; got \(2, 2\)"):
        SegmentMetrics.of(torch.zeros(2, 2), ("sky", "sea", "ship"))


def test_an_evaluation_says_its_metrics_in_words():
    found = SegmentMetrics.of(torch.tensor([[3, 1], [0, 4]]), ("sky", "sea"))
    evaluation = SegmentEvaluation(images=2, weights="best", **vars(found))
    assert evaluation.metrics() == [
        ("mean IoU", "77.50%"),
        ("pixel accuracy", "87.50%"),
        ("mean accuracy of the classes", "87.50%"),
    ]
    assert evaluation.by_class() == ("IoU", {"sky": 0.75, "sea": 0.8})
    nothing = SegmentMetrics.of(torch.zeros(2, 2, dtype=torch.long), ("sky", "sea"))
    evaluation = SegmentEvaluation(images=1, weights="last", **vars(nothing))
    assert {value for _, value in evaluation.metrics()} == {"nothing to measure"}
