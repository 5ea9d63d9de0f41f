"""Tokens as colours."""

import dataclasses
import json
import logging
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from crosshead.tasks.linearize.data import load_images
from crosshead.tasks.linearize.predict import predict_tokens, token_row
from crosshead.tasks.linearize.task import TASK
from crosshead.tasks.sources import Input, read_input
from crosshead.vision.on_grid import GridViT


@pytest.fixture
def recipe(dense_recipe, vit, tmp_path):
    shutil.copytree(vit, tmp_path / "vit")  # its own, so that nothing is remembered from another test
    return dense_recipe("linearize", model=str(tmp_path / "vit"))


def fresh(recipe) -> Any:
    return TASK.build(recipe, load_images(recipe).meta).eval()


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (7, 11, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((90, 50)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def seen(path) -> Input:
    return read_input(path, in_chans=3, position=0)


def cells(row) -> dict[str, np.ndarray]:
    return {name: np.asarray(picture) for name, picture in row}


def test_equal_tokens_have_equal_colours():
    tokens = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    found = cells(
        token_row("photo", Image.new("RGB", (50, 30)), {"a": tokens, "b": tokens.clone(), "c": -tokens})
    )
    assert list(found) == ["photo", "a", "b", "c"]
    assert np.array_equal(found["a"], found["b"])
    assert not np.array_equal(found["a"], found["c"])
    assert len(np.unique(found["a"].reshape(-1, 3), axis=0)) == 15


@pytest.mark.parametrize("shape", [(1, 1, 8), (1, 2, 8), (3, 3, 2)])
def test_few_tokens_and_few_channels_are_drawn(shape):
    found = cells(token_row("photo", Image.new("RGB", (8, 8)), {"a": torch.randn(shape)}))
    assert found["a"].shape[2] == 3


def test_an_image_of_any_shape_is_cut_into_whole_patches(recipe, photo):
    meta = load_images(recipe).meta
    made = predict_tokens(recipe, meta, fresh(recipe), seen(photo), size=None)
    # 50 x 90 pixels become 32 x 56: 8 rows of 14 patches.
    content = json.loads(made.to_json())
    assert content["grid"] == [8, 14]
    assert 0 < content["centered_cosine"] < content["cosine"] < 1
    assert f"{content['cosine']:.4f}" in made.summary
    assert made.rows() == [{"image": str(photo), "rows": 8, "columns": 14, **made.agreement}]
    picture = made.plot()
    assert picture.width > 3 * picture.height / 2
    assert predict_tokens(recipe, meta, fresh(recipe), seen(photo), size=16).to_dict()["grid"] == [4, 7]


def test_without_its_teacher_a_student_is_drawn_alone(recipe, photo, tmp_path, caplog):
    meta = load_images(recipe).meta
    shutil.rmtree(tmp_path / "vit")
    student = TASK.build(dataclasses.replace(recipe, pretrained=False), meta).eval()
    assert isinstance(student, GridViT)
    with caplog.at_level(logging.WARNING):
        made = predict_tokens(recipe, meta, student, seen(photo), size=None)
    assert "the teacher cannot be shown" in caplog.text
    assert "cosine" not in made.to_dict()
    assert made.plot().mode == "RGB"


def test_bad_input_is_refused(recipe, photo):
    meta = load_images(recipe).meta
    student = fresh(recipe)
    with pytest.raises(ValueError, match="size is 0"):
        predict_tokens(recipe, meta, student, seen(photo), size=0)
