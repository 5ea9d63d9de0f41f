"""What a mechanism costs is counted as cost.py counts it, and rows are complete."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from crosshead.measure.cost import layer_cost
from crosshead.runs.model import count_parameters
from crosshead.study import cost
from crosshead.study.backbone import build_model
from crosshead.study.cost import Case, count_multiply_adds, measure_costs, model_workload
from crosshead.study.trial import SHAPE as SHAPE_COLUMNS
from crosshead.study.trial import Shape

SHAPE = Shape(image_size=12, patch_size=2, dim=16, depth=2, heads=4, mlp_ratio=2, landmarks=3)


def multiply_adds(attention: str) -> tuple[int, int]:
    """Those of a model, and those of all but its attention: patches, MLPs of its own width, classifier."""
    model: Any = build_model("digits", attention, SHAPE, num_classes=10, in_chans=1)
    hidden = model.blocks[0].mlp.fc1.out_features
    tokens, dim = 36, 16
    around = tokens * 4 * dim + SHAPE.depth * tokens * 2 * dim * hidden + dim * 10
    return count_multiply_adds(model, torch.zeros(1, 1, 12, 12)), around


@pytest.mark.parametrize("mixing", ["none", "both"])
def test_interactive_attention_costs_what_the_cost_model_says(mixing):
    found, around = multiply_adds(f"interactive:mixing={mixing}")
    layer = layer_cost(dim=16, heads=4, grid=(6, 6), landmarks=3, mixing=mixing)
    assert found == around + SHAPE.depth * layer.multiply_adds


def test_softmax_attention_costs_two_products_over_all_pairs():
    found, around = multiply_adds("softmax")
    by_hand = 36 * 4 * 16 * 16 + 2 * 36 * 36 * 16
    assert found == around + SHAPE.depth * by_hand


def test_inference_and_training_are_what_they_say():
    infer = model_workload("digits", "softmax", SHAPE, passes="infer", device="cpu").run()
    train = model_workload("digits", "softmax", SHAPE, passes="train", device="cpu").run()
    assert infer.output.shape == (cost.BATCH, 10)
    assert not infer.gradients
    model = build_model("digits", "softmax", SHAPE, num_classes=10, in_chans=1)
    assert sum(gradient.numel() for gradient in train.gradients) == count_parameters(model)


def test_every_case_gets_a_complete_row(monkeypatch):
    monkeypatch.setattr(cost, "supported", lambda device: False)
    cases: list[Case] = [("digits", name, SHAPE) for name in ("softmax", "interactive")]
    cases.append(("digits", "interactive", replace(SHAPE, heads=2)))
    rows = measure_costs(cases, device="cpu", repeats=2, budget=0.05)
    assert [(row["attention"], row["heads"]) for row in rows] == [
        ("softmax", 4),
        ("interactive", 4),
        ("interactive", 2),
    ]
    measured = [f"{passes}{end}_ms" for passes in ("infer", "train") for end in ("", "_q25", "_q75")]
    names = ["attention", "parameters", "multiply_adds", *measured, "train_peak_bytes"]
    for row in rows:
        assert list(row) == ["data", *SHAPE_COLUMNS, *names]
        assert row["train_peak_bytes"] is None
        for passes in ("infer", "train"):
            low, middle, high = (row[f"{passes}{end}_ms"] for end in ("_q25", "", "_q75"))
            assert 0 < low <= middle <= high
        model = build_model(
            "digits", row["attention"], replace(SHAPE, heads=row["heads"]), num_classes=10, in_chans=1
        )
        assert row["parameters"] == count_parameters(model)
    assert rows[0]["multiply_adds"] == multiply_adds("softmax")[0]
