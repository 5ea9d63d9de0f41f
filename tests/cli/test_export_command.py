"""`crosshead export`, as one sees it."""

import contextlib
import json
from pathlib import Path

import pytest

from crosshead import load

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

QUICK = ["--model", "test_resnet", "--epochs", "1", "--threads", "1", "--accelerator", "cpu", "--no-compile"]


@pytest.fixture(scope="module")
def run(command_line, tmp_path_factory) -> Path:
    """A run of a net that is exported in seconds, not to be changed."""
    folder = tmp_path_factory.mktemp("export")
    with contextlib.chdir(folder):
        assert command_line("train", "digits", *QUICK, "--batch-size", "256") == 0
    return folder / "runs" / "digits-1"


def test_a_run_becomes_a_file(crosshead, run, tmp_path):
    answer = crosshead("export", run, "--to", "digits.onnx")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0].startswith("written: digits.onnx (")
    assert lines[1] == "written: digits.json"
    assert lines[2].startswith("largest deviation from PyTorch, on noise: ")
    assert "float32 explains" in lines[2]
    assert "1 x 1 x 8 x 8" in lines[2]
    assert lines[3].startswith("milliseconds an image on the CPU, medians: PyTorch ")
    assert lines[4:] == ["next: crosshead predict digits.onnx IMAGE"]
    said = json.loads((tmp_path / "digits.json").read_text())
    assert (said["format"], said["task"], said["weights"]) == (1, "classify", "last")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits.json", "digits.onnx"]


def test_the_best_epoch_in_int8_beside_what_it_cost(crosshead, run, tmp_path):
    answer = crosshead("export", run, "--to", "small.onnx", "--best", "--precision", "int8")
    assert (answer.code, answer.err) == (0, "")
    assert "359 test images, weights of the best epoch" in answer.out
    (row,) = [line for line in answer.out.splitlines() if "top-1 accuracy" in line]
    before, after, lost = (cell.strip() for cell in row.strip("│").split("│")[1:])
    assert float(after.rstrip("%")) - float(before.rstrip("%")) == pytest.approx(float(lost), abs=1e-6)
    said = json.loads((tmp_path / "small.json").read_text())
    assert (said["precision"], said["weights"]) == ("int8", "best")
    assert f"{said['evaluation']['after']['top1']:.2%}" == after
    assert f"{said['evaluation']['before']['top1']:.2%}" == before
    assert not (run / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--to", "model.h5"], "model.h5 must end in .onnx, which ONNX Runtime runs, or in .pt2"),
        (["--to", "model.pt2", "--precision", "float16"], "float16 has no form in a pt2 package"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(arguments, reason, crosshead, run, tmp_path):
    answer = crosshead("export", run, *arguments)
    assert answer.code == 1
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert reason in answer.err
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_run_is_said_in_a_line(crosshead, tmp_path):
    answer = crosshead("export", tmp_path / "gone")
    assert answer.code == 1
    assert "name a run folder" in answer.err


def test_a_file_predicts_as_its_run_does(crosshead, run, digit, tmp_path):
    assert crosshead("export", run, "--to", "digits.onnx").code == 0
    by_run, by_file = (
        crosshead("predict", source, digit, "--json", "--accelerator", "cpu")
        for source in (run, "digits.onnx")
    )
    assert (by_file.code, by_file.err) == (0, "")
    ranked = [json.loads(answer.out)[0]["classes"] for answer in (by_run, by_file)]
    assert [each["name"] for each in ranked[0]] == [each["name"] for each in ranked[1]]
    for one, other in zip(*ranked, strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)
    answer = crosshead("predict", "digits.onnx", digit, "--best")
    assert answer.code == 1
    assert answer.err == "error: digits.onnx holds one set of weights: leave --best out, or export with it\n"


def test_a_file_is_loaded_in_python_as_its_run_is(crosshead, run, digit, tmp_path):
    assert crosshead("export", run, "--to", "digits.onnx").code == 0
    model, exported = load(run), load("digits.onnx")
    assert repr(exported) == repr(model)
    assert exported.predict(digit).probabilities == pytest.approx(
        model.predict(digit).probabilities, abs=1e-5
    )
