"""Models take turns at small sizes."""

from typing import Any

import pytest
import torch
from torch import nn

from crosshead.bench import backbone
from crosshead.bench.backbone import (
    BackboneRow,
    backbone_workload,
    build_model,
    measure_backbones,
    memory_case,
    ratios,
)
from crosshead.bench.options import MODELS, BackboneOptions

CASE: dict[str, Any] = {"batch": 1, "dtype": "float32", "device": "cpu", "compiled": False}


@pytest.fixture
def without_memory(monkeypatch):
    """Leaves out the processes, which take seconds to start."""
    monkeypatch.setattr(backbone, "supported", lambda device: False)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_a_size_that_it_was_not_published_for(name):
    output = backbone_workload(name, 96, passes="inference", **CASE).run().output
    assert output.shape == (1, 1000)
    assert not output.requires_grad


def test_training_has_gradients_of_every_parameter_and_inference_has_none():
    model = build_model("ivit_nano", 32)
    result = backbone_workload("ivit_nano", 32, passes="train", **CASE).run()
    assert len(result.gradients) == len(list(model.parameters()))
    assert backbone_workload("ivit_nano", 32, passes="inference", **CASE).run().gradients == ()


@pytest.mark.parametrize("passes", ["inference", "train"])
def test_models_train_in_training_mode_only(passes, monkeypatch):
    class Telling(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(1000))

        def forward(self, x):
            return self.bias + torch.full((1, 1000), float(self.training))

    monkeypatch.setattr(backbone, "build_model", lambda name, size: Telling())
    output = backbone_workload("ivit_nano", 32, passes=passes, **CASE).run().output
    assert (output == float(passes == "train")).all()


def test_memory_is_measured_of_the_whole_after_a_small_one():
    warm_up, workload = memory_case(name="ivit_nano", size=256, passes="train", **CASE)
    result: Any = warm_up()
    assert result.output.shape == (1, 1000)
    images = workload.given[-1]
    assert images.shape == (1, 3, 256, 256)
    weights = sum(x.nbytes for x in build_model("ivit_nano", 256).state_dict().values())
    assert sum(x.nbytes for x in workload.given) == weights + images.nbytes


def test_weights_are_the_same_each_time():
    first, second = (build_model("ivit_nano", 32).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.usefixtures("without_memory")
def test_every_model_pass_and_size_has_its_row():
    options = BackboneOptions(models=("ivit_nano",), sizes=(32, 64), repeats=2, budget=2)
    told = []
    groups: list[list[Any]] = list(
        measure_backbones(options.resolved(), "cpu", lambda *what: told.append(what))
    )
    assert [(rows[0].passes, rows[0].size) for rows in groups] == [
        ("inference", 32),
        ("inference", 64),
        ("train", 32),
        ("train", 64),
    ]
    for row in (row for rows in groups for row in rows):
        assert row.status == "measured"
        assert row.checked == "shape and finite at 32 pixels"
        assert row.images_per_second == pytest.approx(1 / row.median_s, rel=1e-4)
        assert row.parameters > 1e6
    small, large = (rows[0].multiply_adds for rows in groups[:2])
    assert 3 < large / small < 5
    fractions = [done for _, done in told]
    assert fractions == pytest.approx(sorted(fractions))
    assert fractions[-1] == pytest.approx(1)


@pytest.mark.usefixtures("without_memory")
@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda x: x * float("nan"), "wrong: output is not finite"),
        (lambda x: x[:, :10], r"wrong: output has shape (1, 10), needed are 1000 classes"),
    ],
)
def test_no_time_is_shown_of_a_model_that_is_wrong(monkeypatch, change, status):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1000)

        def forward(self, x):
            return change(self.layer(x.mean((2, 3))))

    monkeypatch.setattr(backbone, "build_model", lambda name, size: Broken())
    options = BackboneOptions(models=("ivit_nano",), sizes=(32,), passes=("inference",)).resolved()
    ((row,),) = measure_backbones(options, "cpu", lambda what, done: None)
    assert row.status == status
    assert row.median_s is row.images_per_second is None


@pytest.mark.usefixtures("without_memory")
def test_a_model_that_cannot_be_built_leaves_the_others():
    options = BackboneOptions(models=("ivit_nano", "vgg11"), sizes=(32,), passes=("train",), budget=1)
    monkey = {"vgg11": RuntimeError("no")}
    build = backbone.build_model

    def sometimes(name, size):
        if name in monkey:
            raise monkey[name]
        return build(name, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone, "build_model", sometimes)
        ((good, bad),) = measure_backbones(options.resolved(), "cpu", lambda what, done: None)
    assert good.status == "measured"
    assert bad.status == "failed: RuntimeError: no"


def test_an_unknown_model_is_refused_at_once():
    options = BackboneOptions(models=("ivit_smal",))
    with pytest.raises(ValueError, match=r"'ivit_smal' is unknown to timm: did you mean ivit_small\?"):
        next(iter(measure_backbones(options, "cpu", lambda what, done: None)))


def row(model, size, speed, passes="inference") -> BackboneRow:
    return BackboneRow(
        model=model,
        passes=passes,
        size=size,
        batch=1,
        status="",
        checked="",
        repeats=1,
        calls=1,
        images_per_second=speed,
    )


def test_ratios_are_speeds_of_the_first_over_those_of_each():
    rows = [
        row("a", 224, 10.0),
        row("b", 224, 4.0),
        row("c", 224, None),
        row("a", 512, None),
        row("b", 512, 1.0),
    ]
    found = [(line["model"], line["size"], line["speed_ratio"]) for line in ratios(rows)]
    assert found == [("a", 224, 1.0), ("b", 224, 2.5)]
