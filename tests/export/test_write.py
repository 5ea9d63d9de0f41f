"""A file gives what the net of its run gives, says so, and is not there where it does not."""

import dataclasses
import json
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from crosshead.export import write
from crosshead.export.onnx_file import onnx_with
from crosshead.export.program import draw_inputs, traced_size
from crosshead.export.write import export_run
from crosshead.runs.exported import read_exported
from crosshead.runs.folder import RunError, read_json
from crosshead.runs.load import load_run
from crosshead.runs.record import read_record

TASKS = {
    "attention": [(1, 8, 8), (5, 21, 9), (2, 30, 64), (1, 1, 1)],
    "digits": [(4, 8, 8), (1, 33, 50)],
    "fixed": [(1, 8, 8), (7, 8, 8)],
    "segment": [(1, 32, 40), (3, 17, 50), (1, 5, 3)],
    "change": [(1, 40, 40), (3, 17, 50), (1, 5, 3)],
    "linearize": [(1, 16, 16), (3, 40, 8), (1, 4, 4)],
}


@pytest.mark.parametrize(("name", "shapes"), TASKS.items(), ids=TASKS)
def test_any_batch_and_size_gives_what_the_net_gives(name, shapes, onnx_file, fresh_run):
    _, net = load_run(fresh_run(name))
    _, read = read_exported(onnx_file(name).path)
    method = read.interface.method
    for batch, *size in shapes:
        assert (size[0], size[1]) != traced_size(read.interface) or read.interface.fixed
        images = draw_inputs(read.interface, batch, (size[0], size[1]), seed=7)
        with torch.no_grad():
            expected = getattr(net, method)(*images)
        scale = float(expected.abs().max())
        torch.testing.assert_close(getattr(read, method)(*images), expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", TASKS)
def test_the_file_says_what_the_run_says(name, onnx_file, fresh_run):
    made = onnx_file(name)
    record, read = read_exported(made.path)
    assert record == read_record(fresh_run(name))
    assert read.interface == made.interface
    assert read.metadata == read_json(made.described, remedy="")
    assert read.metadata["run"] == read_json(fresh_run(name).recipe, remedy="")
    assert read.metadata["check"]["largest_deviation"] <= read.metadata["check"]["bound"]
    assert not read.training


def test_the_file_names_its_axes_and_no_folder_of_the_machine(onnx_file, tmp_path):
    onnx = pytest.importorskip("onnx")
    content = onnx_file("linearize").path.read_bytes()
    graph = onnx.load_from_string(content).graph
    sides = [side.dim_param or side.dim_value for side in graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", 3, "height", "width"]
    assert [value.name for value in graph.output] == ["tokens"]
    assert str(Path(write.__file__).parent).encode() not in content


SPOILED = {
    "transposed": (lambda x: x.T, "gives (10, 1) for images of 8 x 8 pixels in a batch of 1"),
    "in another order": (lambda x: x.flip(1), "logits are off by"),
    "shifted": (lambda x: x + 1e-4, "logits are off by 1.0e-04, and float32 explains"),
    "not finite": (lambda x: x / 0, "not finite"),
}


@pytest.mark.usefixtures("traced_before")
@pytest.mark.parametrize(("spoil", "reason"), SPOILED.values(), ids=SPOILED)
def test_a_file_that_differs_is_not_left_behind(spoil, reason, fresh_run, tmp_path, monkeypatch):
    def read_spoiled(path: Path):
        record, read = read_exported(path)
        run = read.run
        read.run = lambda images: [spoil(*run(images))]
        return record, read

    monkeypatch.setattr(write, "read_exported", read_spoiled)
    with pytest.raises(RunError, match=r"the file ") as caught:
        export_run(fresh_run("digits"), to=tmp_path / "model.onnx")
    assert reason in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_one_batch_is_not_left_behind(fresh_run, tmp_path, monkeypatch):
    def of_two(net: nn.Module, interface):
        (images,) = draw_inputs(interface, 2, (8, 8), seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(net, (images,))

    monkeypatch.setattr(write, "trace", of_two)
    with pytest.raises(RunError, match=r"the file does not run with \(1, 1, 8, 8\) .*invalid dimensions"):
        export_run(fresh_run("digits"), to=tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_is_refused_before_anything_is_traced(fresh_run, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "trace", lambda *_: pytest.fail("traced"))
    run = fresh_run("digits")

    def refused(*words: str, **options) -> None:
        with pytest.raises(RunError) as caught:
            export_run(run, **options)
        for word in words:
            assert word in str(caught.value)
        assert "\n" not in str(caught.value)

    refused("model.tflite must end in .onnx", ".pt2", to=tmp_path / "model.tflite")
    refused("int8 has no form in a pt2 package", to=tmp_path / "model.pt2", precision="int8")
    (tmp_path / "folder.onnx").mkdir()
    refused("is a folder", to=tmp_path / "folder.onnx")
    for content in ("{}", "mine", "[1]"):
        (tmp_path / "other.json").write_text(content)
        refused("other.json is there already", to=tmp_path / "other.onnx")
        assert (tmp_path / "other.json").read_text() == content
    monkeypatch.setattr(write, "LARGEST", 1000)
    refused("GB of weights", "crosshead predict", to=tmp_path / "model.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.onnx", "other.json"]


@pytest.mark.usefixtures("traced_before")
def test_an_older_export_is_replaced(fresh_run, tmp_path):
    to = tmp_path / "small.onnx"
    to.write_bytes(b"older")
    (tmp_path / "small.json").write_text('{"format": 1}')
    made = export_run(fresh_run("digits"), to=to)
    assert read_exported(to)[1].metadata == json.loads(made.described.read_text())


def test_wrong_metadata_are_seen(onnx_file, metadata, tmp_path):
    """What a file says of its inputs is what it has."""
    metadata["net"]["inputs"][0]["name"] = "pictures"
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_with(onnx_file("digits").path.read_bytes(), json.dumps(metadata)))
    with pytest.raises(RunError, match="has the inputs images, and its metadata others"):
        read_exported(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["attention", "segment", "change", "linearize"])
def test_a_package_gives_what_the_net_gives(name, fresh_run, tmp_path):
    run = fresh_run(name)
    made = export_run(run, to=tmp_path / "model.pt2")
    _, net = load_run(run)
    record, read = read_exported(made.path)
    assert record == read_record(run)
    assert read.metadata == read_json(made.described, remedy="")
    for batch, *size in TASKS[name]:
        images = draw_inputs(read.interface, batch, (size[0], size[1]), seed=7)
        with torch.no_grad():
            expected = getattr(net, read.interface.method)(*images)
        scale = float(expected.abs().max())
        torch.testing.assert_close(read(*images), expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["upernet", "fpn"])
def test_attention_below_a_decoder(decoder, dense_recipe, write_run, tmp_path):
    recipe = dataclasses.replace(dense_recipe("segment"), decoder=decoder)
    made = export_run(write_run(tmp_path / "run", recipe))
    assert made.agreement.bound is not None
