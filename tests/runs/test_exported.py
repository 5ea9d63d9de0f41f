"""Reading exported files, which may come from anywhere."""

import builtins
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from crosshead._version import __version__
from crosshead.runs.exported import COMPILED, ENTRY, FORMAT, KEY, is_exported, read_exported
from crosshead.runs.folder import RunError, json_text
from crosshead.runs.record import RunRecord
from crosshead.tasks.interface import Interface, NetInput
from crosshead.tasks.task import task_of

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

INTERFACE = Interface(
    inputs=(NetInput(name="images", channels=1, scale=255.0, mean=(0.5,), std=(0.25,)),),
    output="logits",
    axes=("batch", "class"),
    method="forward",
    trained=(8, 8),
    multiple=(2, 1),
)


@pytest.fixture(scope="module")
def metadata(tiny) -> dict[str, Any]:
    meta = task_of("classify").data(tiny).meta
    record = RunRecord(name="digits", recipe=tiny, meta=meta, start=None, stamp={"created": "today"})
    content = {
        "format": FORMAT,
        "crosshead": __version__,
        "net": INTERFACE.as_json(),
        "run": record.as_json(),
    }
    return json.loads(json_text(content))


@pytest.fixture
def write(tmp_path):
    """Writes an ONNX file that gives the mean of each image: `write(metadata)`."""

    def make(metadata: dict[str, Any] | str | None) -> Path:
        helper, numbers = onnx.helper, onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            [
                helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
                helper.make_node("Flatten", ["pooled"], ["logits"]),
            ],
            "mean",
            [helper.make_tensor_value_info("images", numbers, ["b", 1, "h", "w"])],
            [helper.make_tensor_value_info("logits", numbers, ["b", 1])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        if metadata is not None:
            text = metadata if isinstance(metadata, str) else json.dumps(metadata)
            helper.set_model_props(model, {KEY: text})
        onnx.save(model, tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return make


def test_a_file_is_called_as_a_net(write, metadata, tiny):
    record, net = read_exported(write(metadata))
    assert (record.recipe, record.stamp) == (tiny, {"created": "today"})
    assert net.metadata == metadata
    images = torch.rand(3, 1, 10, 7)
    torch.testing.assert_close(net(images), images.mean((2, 3)))
    # Whoever calls a net looks for its device and its mode.
    assert next(net.parameters()).device.type == "cpu"
    assert not net.training
    assert net(images.double()).dtype == torch.float32
    with torch.inference_mode():
        assert net(torch.rand(1, 1, 8, 8)).shape == (1, 1)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ([torch.zeros(1, 1, 9, 8)], "sides multiples of 2 and 1; got (1, 1, 9, 8)"),
        ([torch.zeros(1, 3, 8, 8)], "images must be (batch, 1, height, width)"),
        ([torch.zeros(1, 8, 8)], "got (1, 8, 8)"),
        ([torch.zeros(1, 1, 8, 8)] * 2, "takes 1 inputs, images; got 2"),
        ([torch.zeros(1, 1, 0, 8)], "does not run with (1, 1, 0, 8)"),
    ],
)
def test_what_the_net_does_not_take_is_refused(images, reason, write, metadata):
    _, net = read_exported(write(metadata))
    with pytest.raises(RunError) as caught:
        net(*images)
    assert reason in str(caught.value)


def test_tokens_are_asked_of_nets_that_give_them(write, metadata):
    _, net = read_exported(write(metadata))
    with pytest.raises(RunError, match="gives logits, not tokens"):
        net.forward_features(torch.zeros(1, 1, 8, 8))
    metadata = {**metadata, "net": {**metadata["net"], "output": "tokens", "prefix_tokens": 5}}
    _, net = read_exported(write(metadata))
    assert net.num_prefix_tokens == 5
    assert net.forward_features(torch.zeros(1, 1, 8, 8)).shape == (1, 1)


def changed(metadata: dict[str, Any], *place: str, value: object) -> dict[str, Any]:
    """The metadata with another value at a place, or without it."""
    copy = json.loads(json.dumps(metadata))
    inner = copy
    for name in place[:-1]:
        inner = inner[name]
    if value is None:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return copy


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (("format",), FORMAT + 1, "is of format 2, and this Crosshead reads up to 1: update Crosshead"),
        (("format",), "1", "damaged metadata"),
        (("format",), None, "damaged metadata"),
        (("net",), None, "damaged metadata"),
        (("net", "trained"), [8, "8"], "damaged metadata"),
        (("net", "inputs"), [], "its metadata others"),
        (("run",), None, "damaged metadata"),
        (("run",), [], "damaged metadata"),
        (("run", "version"), 99, "is of version 99"),
        (("run", "task"), "../paint", "task must be a folder"),
        (("run", "recipe", "epochs"), -1, "epochs is -1"),
        (("run", "meta", "mean"), ["x"], "mean"),
    ],
)
def test_metadata_are_checked(place, value, reason, write, metadata):
    path = write(changed(metadata, *place, value=value))
    with pytest.raises(RunError) as caught:
        read_exported(path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "3", "[" * 100_000])
def test_files_of_others_are_refused(text, write):
    with pytest.raises(RunError, match=r"not written by `crosshead export`|damaged metadata"):
        read_exported(write(text))


def test_a_damaged_file_is_refused(write, metadata):
    path = write(metadata)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"PK" + content[2:], b"\x80\x04K\x01."):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"model\.onnx .*`crosshead export`") as caught:
            read_exported(path)
        assert "\n" not in str(caught.value)


def test_paths_that_are_no_files_are_refused(tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    for name, reason in {
        "model.txt": "must end in .onnx or .pt2",
        "gone.onnx": "does not exist",
        "gone.pt2": "does not exist",
        "folder.onnx": "is not a file",
    }.items():
        with pytest.raises(RunError, match=reason):
            read_exported(tmp_path / name)
    assert is_exported(Path("A.ONNX"))
    assert not is_exported(tmp_path)


def test_without_onnxruntime_the_remedy_is_named(write, metadata, monkeypatch):
    path, load = write(metadata), builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "onnxruntime":
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(RunError, match=r"pip install 'crosshead\[export\]'"):
        read_exported(path)


PLACE = f"model/{ENTRY}"
FOREIGN = {f"model/{COMPILED}model/a.wrapper.so": "not for this processor"}


def write_zip(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_packages_are_checked_before_anything_in_them_is_run(metadata, tmp_path, monkeypatch):
    monkeypatch.setattr("torch._inductor.aoti_load_package", lambda path: pytest.fail("loaded"))
    path = tmp_path / "model.pt2"
    for content in ({"model/archive_format": "pt2"}, {**FOREIGN, PLACE: ""}, {**FOREIGN, PLACE: "{}"}):
        write_zip(path, content)
        with pytest.raises(RunError, match=r"model\.pt2 .*`crosshead export`"):
            read_exported(path)
    path.write_bytes(b"no archive")
    with pytest.raises(RunError, match="damaged, or no pt2 package"):
        read_exported(path)
    write_zip(path, {PLACE: json.dumps(metadata)})
    with pytest.raises(RunError, match=r"damaged, or no pt2 package \(it holds no model\): export"):
        read_exported(path)


def test_a_package_that_does_not_load_here_says_so(metadata, tmp_path):
    path = write_zip(tmp_path / "model.pt2", {**FOREIGN, PLACE: json.dumps(metadata)})
    with pytest.raises(RunError, match=r"cannot be loaded .*one kind of processor") as caught:
        read_exported(path)
    assert "\n" not in str(caught.value)
