"""Where a task calls its net to predict, it may call a file in its place."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from crosshead.runs.exported import read_exported
from crosshead.runs.load import load_run
from crosshead.tasks.change.net import class_probabilities
from crosshead.tasks.linearize.predict import tokens_of
from crosshead.tasks.segment.predict import label_map


@pytest.fixture
def both(fresh_run, onnx_file):
    """The metadata of a run, its net, and its file."""

    def give(name: str) -> tuple[Any, Any, Any]:
        record, net = load_run(fresh_run(name))
        return record.meta, net, read_exported(onnx_file(name).path)[1]

    return give


@pytest.fixture
def photo() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (45, 70, 3)).astype(np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("window", [None, 32])
def test_labels_of_pixels(window, both, photo):
    meta, net, read = both("segment")
    found, expected = (label_map(meta, each, photo, window=window) for each in (read, net))
    assert found.shape == (45, 70)
    # Two scores may be equal but for their rounding.
    assert (found == expected).mean() > 0.999


@pytest.mark.parametrize("tile", [None, 16])
def test_change_between_dates(tile, both):
    _, net, read = both("change")
    before, after = torch.randn(2, 1, 3, 40, 25, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, expected = (class_probabilities(each, before, after, tile=tile) for each in (read, net))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_tokens(both, photo):
    meta, net, read = both("linearize")
    found = tokens_of({"file": read, "net": net}, meta, photo, size=24)
    assert found["file"].shape[:2] == (6, 9)
    torch.testing.assert_close(found["file"], found["net"], rtol=0, atol=1e-4)
