"""Pages and sheets of every kind of net, and what is refused."""

import json
import re

import pytest
from PIL import Image

import crosshead
from crosshead.explain.write import write_explanation

BY_STAGE = ["net.encoder.model.stages_1.blocks.0.attn", "net.encoder.model.stages_2.blocks.0.attn"]


@pytest.fixture
def loaded(dense_run):
    return lambda name: crosshead.load(dense_run(name).path, accelerator="cpu")


def content_of(page) -> dict:
    text = page.read_text()
    found = re.search(r'id="content">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_a_segmentation(loaded, label_data, tmp_path):
    image = label_data / "val" / "images" / "1.png"
    page, *pictures = write_explanation(loaded("segment"), image, tmp_path)
    assert page == tmp_path / "1.html"
    names = [f"{layer}.{kind}" for layer in BY_STAGE for kind in ("maps", "landmarks", "mixing")]
    assert [path.name for path in pictures] == [f"{name}.png" for name in ["scores", *names]]
    assert {Image.open(path).mode for path in pictures} == {"RGB"}
    content = content_of(page)
    assert [layer["name"] for layer in content["layers"]] == BY_STAGE
    assert content["scores"][-1]["name"].startswith("rollout")
    names = {score["name"].partition(":")[0] for score in content["scores"][:-1]}
    assert names <= {"background", "red", "blue"}
    assert content["teacher"] == {}


@pytest.mark.parametrize("name", ["boxes", "retinanet"])
def test_a_detector(loaded, coco_data, tmp_path, name):
    model = loaded(name)
    (page,) = write_explanation(model, coco_data / "val" / "1.png", tmp_path, with_sheets=False)
    scores = [score["name"] for score in content_of(page)["scores"][:-1]]
    assert all(
        re.fullmatch(rf"object {number}: (red|blue): what attention carries", score)
        for number, score in enumerate(scores, 1)
    )
    assert scores


def test_two_dates_have_a_page_each(loaded, pair_data, tmp_path):
    dates = pair_data / "before" / "field.npy", pair_data / "after" / "field.npy"
    pages = [*write_explanation(loaded("change"), dates, tmp_path, with_sheets=False)]
    assert [page.name for page in pages] == ["field-the-earlier-date.html", "field-the-later-date.html"]
    images = [content_of(page)["image"] for page in pages]
    assert images[0] != images[1]


def test_a_linearized_net_beside_its_teacher(loaded, label_data, tmp_path):
    image = label_data / "val" / "images" / "1.png"
    (page,) = write_explanation(loaded("linearize"), image, tmp_path, with_sheets=False, size=24)
    content = content_of(page)
    assert [*content["teacher"]] == [layer["name"] for layer in content["layers"]]
    layer, of_teacher = content["layers"][0], next(iter(content["teacher"].values()))
    assert of_teacher["shape"][1:] == 2 * [layer["query"]["shape"][1]]


def test_layers_and_heads_can_be_chosen(loaded, label_data, tmp_path):
    image = label_data / "val" / "images" / "1.png"
    choices = {"layers": [-1], "token": (0, 1), "head": 1}
    page, *_ = write_explanation(loaded("segment"), image, tmp_path, **choices)
    assert [layer["name"] for layer in content_of(page)["layers"]] == BY_STAGE[1:]
    with pytest.raises(ValueError, match="head must lie in 0 to 1; got 7: the nearest is 1"):
        list(write_explanation(loaded("segment"), image, tmp_path, head=7))
    with pytest.raises(ValueError, match=r"token \(90, 1\) is outside the grid"):
        list(write_explanation(loaded("segment"), image, tmp_path, token=(90, 1)))
