"""What docs/export.md says: a file and the JSON beside it are all that a reader needs."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from crosshead.export.onnx_file import onnx_with
from crosshead.runs.load import load_run
from crosshead.tasks.classify.transforms import eval_transform
from crosshead.tasks.images import read_image

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()


def printed_by(page: str, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, float]]:
    """Classes and percentages that the page's Python block prints."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    capsys.readouterr()
    exec(compile(code, "export.md", "exec"), {"__name__": "__main__"})
    lines = capsys.readouterr().out.splitlines()
    return [(name, float(value.rstrip("%"))) for name, value in (line.split(": ") for line in lines)]


@pytest.fixture
def photo(tmp_path, monkeypatch) -> Path:
    """A photograph in colours, neither square nor of the trained size."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (37, 90, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((41, 23), Image.Resampling.BICUBIC).save("photo.png")
    return Path("photo.png")


@pytest.mark.parametrize("name", ["digits", "attention"])
def test_plain_python_gives_what_the_run_predicts(name, onnx_file, fresh_run, photo, capsys):
    Path("model.onnx").write_bytes(onnx_file(name).path.read_bytes())
    record, net = load_run(fresh_run(name))
    meta: Any = record.meta
    prepare = eval_transform(image_size=meta.image_size, mean=meta.mean, std=meta.std)
    with torch.no_grad():
        ranked = net(prepare(read_image(photo, mode="L"))[None])[0].softmax(0).topk(5)
    expected = [
        (meta.classes[number], 100 * probability)
        for probability, number in zip(ranked.values.tolist(), ranked.indices.tolist(), strict=True)
    ]
    found = printed_by(PAGE, capsys)
    assert [name for name, _ in found] == [name for name, _ in expected]
    # Percentages have one digit after the point.
    assert [value for _, value in found] == pytest.approx([value for _, value in expected], abs=0.051)


def test_other_statistics_in_the_file_give_something_else(onnx_file, metadata, fresh_run, photo, capsys):
    content = onnx_file("digits").path.read_bytes()
    Path("model.onnx").write_bytes(content)
    right = printed_by(PAGE, capsys)
    metadata["net"]["inputs"][0]["mean"] = [0.0]
    Path("model.onnx").write_bytes(onnx_with(content, json.dumps(metadata)))
    assert printed_by(PAGE, capsys) != right


def test_the_page_names_every_field(metadata):
    (_, table), *_ = re.findall(
        r"^\| (field) \|.*?\n\|---.*?\n(.*?)\n\n", PAGE, flags=re.DOTALL | re.MULTILINE
    )
    named = set(re.findall(r"`([\w.]+)`", "\n".join(row.split("|")[1] for row in table.splitlines())))
    fields = set(metadata) - {"net"} | {f"net.{name}" for name in metadata["net"]}
    assert fields == named
