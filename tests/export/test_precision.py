"""Smaller files, and what they cost."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from crosshead.export import write
from crosshead.export.loss import calibration_batches, difference, measure_loss
from crosshead.export.program import draw_inputs
from crosshead.export.write import export_run
from crosshead.runs.exported import read_exported
from crosshead.runs.folder import RunError
from crosshead.runs.load import load_run
from crosshead.tasks.task import DataError


@pytest.mark.usefixtures("traced_before")
@pytest.mark.parametrize(("precision", "near"), [("float16", 0.01), ("int8", 0.3)])
def test_a_smaller_file_is_near_and_its_loss_is_told(precision, near, fresh_run, onnx_file, tmp_path):
    run = fresh_run("digits")
    made = export_run(run, to=tmp_path / "small.onnx", precision=precision)
    whole = onnx_file("digits").path
    assert made.path.stat().st_size < 0.7 * whole.stat().st_size
    record, read = read_exported(made.path)
    assert read.metadata["precision"] == precision
    images = draw_inputs(read.interface, 3, (11, 17), seed=3)
    expected = read_exported(whole)[1](*images)
    found = read(*images)
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max()) < near * float(expected.abs().max())
    assert not torch.equal(found, expected)
    # In model.json the metrics of the run, before and after, as `crosshead evaluate` would write them.
    told = json.loads(made.described.read_text())["evaluation"]
    assert told["before"]["images"] == told["after"]["images"] == 359
    assert abs(told["before"]["top1"] - told["after"]["top1"]) < 0.1
    assert made.loss is not None
    assert [row[0] for row in made.loss.rows()][:2] == ["top-1 accuracy", "top-5 accuracy"]
    assert record.recipe.task == "classify"


@pytest.mark.usefixtures("traced_before")
def test_without_the_data_nothing_is_measured(fresh_run, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "measure_loss", lambda *_, **__: pytest.fail("measured"))
    made = export_run(fresh_run("digits"), to=tmp_path / "small.onnx", precision="float16", evaluate=False)
    assert made.loss is None
    assert json.loads(made.described.read_text())["evaluation"] is None


def test_the_file_is_what_is_measured(fresh_run, onnx_file):
    """A file that always says the first class is right about the first class alone."""
    run = fresh_run("digits")
    record, net = load_run(run)
    _, read = read_exported(onnx_file("digits").path)
    read.run = lambda images: [torch.eye(10)[:1].expand(len(images[0]), -1)]
    loss = measure_loss(run, record, net, read, weights="last", data_dir=None)
    after = loss.as_json()["after"]
    assert sum(row[0] for row in after["confusion"]) == after["images"]
    assert loss.as_json()["before"]["confusion"] != after["confusion"]


def test_ranges_come_from_training_images_as_they_are_prepared(fresh_run):
    record, _ = load_run(fresh_run("digits"))
    batches = calibration_batches(record, data_dir=None, inputs=1)
    assert [len(batch[0]) for batch in batches] == 16 * [8]
    pixels = np.concatenate([batch[0] for batch in batches])
    assert abs(pixels.mean()) < 0.3
    assert 0.7 < pixels.std() < 1.3


def test_int8_products_have_constant_weights_and_others_stay(onnx_file, fresh_run, tmp_path, monkeypatch):
    content = onnx_file("attention").path.read_bytes()
    monkeypatch.setattr(write, "trace", lambda *_: None)
    monkeypatch.setattr(write, "to_onnx", lambda *_: content)
    made = export_run(fresh_run("attention"), to=tmp_path / "m.onnx", precision="int8", evaluate=False)
    graph = onnx.load(made.path).graph
    maker = {name: node.op_type for node in graph.node for name in node.output}
    products = [node for node in graph.node if node.op_type == "MatMul"]
    given = [[maker.get(name) for name in node.input] for node in products]
    assert ["DequantizeLinear", "DequantizeLinear"] in given
    assert any("DequantizeLinear" not in makers for makers in given)


def test_data_that_are_gone_are_named_before_anything_is_traced(fresh_run, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "trace", lambda *_: pytest.fail("traced"))
    with pytest.raises(DataError, match="gone"):
        export_run(fresh_run("segment"), to=tmp_path / "m.onnx", precision="int8", data_dir=tmp_path / "gone")


def test_a_run_without_training_images_cannot_be_calibrated(fresh_run, monkeypatch):
    record, _ = load_run(fresh_run("digits"))
    from crosshead.tasks.task import task_of

    task = task_of("classify")
    data = task.data(record.recipe)
    nothing = replace(data, train=torch.utils.data.Subset(data.train, []))
    monkeypatch.setattr(task, "data", lambda recipe: nothing)
    with pytest.raises(RunError, match="training images"):
        calibration_batches(record, data_dir=None, inputs=1)


def test_differences_have_the_digits_of_what_they_compare():
    assert difference("1,234.5", "1,230.0") == "-4.5"
    assert difference("98.30%", "nothing to measure") == ""
