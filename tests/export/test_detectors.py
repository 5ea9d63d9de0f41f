"""A detector's file finds what the detector finds, or is not written."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.export import Dim

from crosshead.export import write
from crosshead.export.check import check
from crosshead.export.describe import describe
from crosshead.export.objects import fraction_shared, shared
from crosshead.export.write import export_run
from crosshead.runs.exported import ExportedNet, open_session, read_exported
from crosshead.runs.folder import RunError, RunFolder
from crosshead.runs.load import load_run
from crosshead.runs.trained import load
from crosshead.tasks.task import task_of

BOXES = torch.tensor([[0.0, 0, 4, 4], [6, 6, 9, 9], [0, 0, 4, 4]])
LABELS, SCORES = torch.tensor([1, 1, 2]), torch.tensor([0.9, 0.8, 0.7])


@pytest.fixture(scope="module")
def detector_run(dense_recipe, write_run, tmp_path_factory) -> Callable[[str], RunFolder]:
    """A run with fresh weights, not to be changed: `detector_run("masks")`."""

    def make(name: str) -> RunFolder:
        recipe = dense_recipe(name, model="test_resnet", model_args={}, pyramid_dim=16)
        return write_run(tmp_path_factory.mktemp("detectors") / name, recipe)

    return make


@pytest.fixture(scope="module")
def mask_rcnn(detector_run) -> Any:
    """What of a Mask R-CNN a file holds, and how it is called."""
    record, net = load_run(detector_run("masks"))
    rest = task_of("detect").to_export(net)
    return rest, describe(record, rest)


def test_the_same_objects_in_another_order_are_the_same():
    order = [2, 0, 1]
    found = [values[order] for values in (BOXES, LABELS, SCORES)]
    assert fraction_shared(found, (BOXES, LABELS)) == 1
    mine, theirs = shared(found, (BOXES, LABELS, SCORES))
    assert torch.equal(mine[2], theirs[2])


@pytest.mark.parametrize(
    ("found", "fraction"),
    [
        ((BOXES[:2], LABELS[:2]), 2 / 3),
        ((BOXES, torch.tensor([1, 2, 2])), 2 / 3),
        ((BOXES + torch.tensor([0, 0, 0, 0.2]), LABELS), 1),
        ((BOXES + torch.tensor([0, 0, 0, 1.0]), LABELS), 0),
        ((BOXES[:0], LABELS[:0]), 0),
    ],
)
def test_objects_that_one_finds_alone_count_against_both(found, fraction):
    assert fraction_shared(found, (BOXES, LABELS)) == pytest.approx(fraction)
    assert fraction_shared((BOXES, LABELS), found) == pytest.approx(fraction)


def test_boxes_without_extent_are_left_out():
    """Their overlap is no number, with themselves too."""
    line = (torch.tensor([[4.0, 0, 4, 9]]), torch.tensor([1]), torch.tensor([0.5]))
    with_line = [torch.cat(pair) for pair in zip(line, (BOXES, LABELS, SCORES), strict=True)]
    assert fraction_shared(with_line, with_line) == fraction_shared(with_line, (BOXES, LABELS)) == 1
    assert torch.equal(shared(with_line, with_line)[0][0], BOXES)


def test_nothing_is_what_nothing_is():
    nothing = (BOXES[:0], LABELS[:0], SCORES[:0])
    assert fraction_shared(nothing, nothing) == 1
    assert [len(values) for values in shared(nothing, nothing)[0]] == [0, 0, 0]


def in_turn(values: Tensor) -> Tensor:
    return values.flip(0)


@pytest.mark.parametrize(
    ("output", "damage", "reason"),
    [
        (None, None, None),
        (None, in_turn, None),
        (None, lambda values: values[: len(values) // 2], "it finds 50% of what float64 does"),
        (0, lambda boxes: boxes + 0.01, "its boxes are off by 1.0e-02"),
        (1, lambda labels: 3 - labels, "it finds"),
        (2, lambda scores: scores + 1e-3, "its scores are off by 1.0e-03"),
        (3, lambda masks: masks * 0.999, "its masks are off by"),
        (2, lambda scores: scores * torch.nan, "not finite"),
    ],
)
@torch.no_grad()
def test_a_file_that_finds_something_else_is_seen(output, damage, reason, mask_rcnn):
    net, interface = mask_rcnn

    def run(inputs: Any) -> list[Tensor]:
        found = list(net(*inputs))
        return [
            values if damage is None or output not in (None, number) else damage(values)
            for number, values in enumerate(found)
        ]

    file = ExportedNet(run, interface=interface, metadata={})
    if reason is None:
        agreement = check(net, file, interface, exact=True)
        assert agreement.largest_output > 10
        assert agreement.largest_deviation == 0
    else:
        with pytest.raises(RunError, match=reason):
            check(net, file, interface, exact=True)


@torch.no_grad()
def test_a_file_that_does_not_know_min_score_is_seen(mask_rcnn):
    net, interface = mask_rcnn
    file = ExportedNet(
        lambda inputs: list(net(inputs[0], torch.tensor(0.0))), interface=interface, metadata={}
    )
    with pytest.raises(RunError, match=r"it finds 0% of what float64 does, and the net in float32 100%"):
        check(net, file, interface, exact=True)


class Pool(nn.Module):
    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, boxes: Tensor, *maps: Tensor) -> Tensor:
        return self.pool({str(level): one for level, one in enumerate(maps)}, [boxes], [(512, 512)])


def test_boxes_of_every_size_are_pooled_by_the_file_as_by_the_net(mask_rcnn):
    """In small images all are pooled from the finest map."""
    pool = mask_rcnn[0].net.roi_heads.box_roi_pool
    generator = torch.Generator().manual_seed(0)
    # A side of 224 pixels and its halves and doubles are where the map changes.
    places, sides = torch.rand(60, 2, generator=generator) * 64, torch.rand(60, 2, generator=generator) * 448
    boxes = torch.cat([places, places + sides], 1)
    levels = pool.map_levels([boxes])
    assert len(levels.unique()) > 2
    assert (levels.diff() < 0).any()
    maps = [
        torch.randn(1, 4, round(512 * scale), round(512 * scale), generator=generator)
        for scale in pool.scales
    ]
    program = torch.export.export(
        Pool(pool), (boxes, *maps), dynamic_shapes=({0: Dim.DYNAMIC}, ({},) * len(maps)), strict=False
    )
    made = torch.onnx.export(program, (), dynamo=True, verbose=False)
    assert made is not None
    session = open_session(made.model_proto.SerializeToString())
    for some in (boxes, boxes.flip(0)[:7]):
        values = [some, *maps]
        given = {one.name: value.numpy() for one, value in zip(session.get_inputs(), values, strict=True)}
        (found,) = session.run(None, given)
        torch.testing.assert_close(torch.from_numpy(found), Pool(pool)(*values), rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{"to": "model.pt2"}, {"precision": "float16"}, {"precision": "int8"}])
def test_other_forms_are_refused_before_anything_is_traced(options, detector_run, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "trace", lambda *_: pytest.fail("traced"))
    to = tmp_path / options.pop("to", "model.onnx")
    with pytest.raises(RunError, match=r"detector is exported as an ONNX file in float32 alone; name an"):
        export_run(detector_run("boxes"), to=to, **options)
    assert not list(tmp_path.iterdir())


def test_a_graph_of_one_size_agrees(detector_run, tmp_path, monkeypatch):
    """Free sizes take a minute: see below."""
    monkeypatch.setattr(write, "describe", lambda *given: dataclasses.replace(describe(*given), fixed=True))
    made = export_run(detector_run("boxes"), to=tmp_path / "model.onnx")
    _, read = read_exported(made.path)
    assert read.interface == made.interface
    with pytest.raises(RunError, match=r"images must be \(1, 3, 32, 40\); got \(2, 3, 32, 40\)"):
        read.outputs(torch.zeros(2, 3, 32, 40), torch.tensor(0.5))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["boxes", "masks", "retinanet"])
def test_a_file_predicts_what_the_run_predicts(name, detector_run, tmp_path):
    run = detector_run(name)
    made = export_run(run, to=tmp_path / "model.onnx")
    assert len(made.agreement.shapes) == 3
    net, file = load(run.path, accelerator="cpu"), load(made.path)
    generator = np.random.default_rng(0)
    for size in ((30, 40), (17, 33), (90, 50), (9, 7)):
        photo = Image.fromarray(generator.integers(0, 256, (*size, 3)).astype(np.uint8))
        for least in (0.0, 0.5, 1.0):
            mine, theirs = (each.predict(photo, min_score=least) for each in (file, net))
            assert len(mine) == len(theirs)
            same = [(torch.from_numpy(each.boxes), torch.from_numpy(each.labels)) for each in (mine, theirs)]
            assert fraction_shared(*same) > 0.97
            assert (mine.masks is None) == (name != "masks")
            np.testing.assert_allclose(mine.scores, theirs.scores, atol=1e-4)
