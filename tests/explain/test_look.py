"""What a net was given comes back as a picture, whatever stood between the file and the net."""

import numpy as np
import pytest
import torch
from PIL import Image

import crosshead
from crosshead.explain import scores as scores_module
from crosshead.explain.look import look
from crosshead.explain.scores import gradients_of_scores, leading_scores, relevance_of_scores


@pytest.fixture
def loaded(dense_run):
    return lambda name: crosshead.load(dense_run(name).path, accelerator="cpu")


def difference(seen: Image.Image, given: Image.Image) -> float:
    resized = given.convert(seen.mode).resize(seen.size, Image.Resampling.BICUBIC)
    return float(np.abs(np.asarray(seen, float) - np.asarray(resized, float)).mean())


def test_a_segmentation_sees_the_image_whole(loaded, label_data):
    path = label_data / "val" / "images" / "1.png"
    seen = look(loaded("segment"), path)
    (image,) = seen.images
    padded = Image.new("RGB", image.size)
    padded.paste(image)
    file = Image.open(path).convert("RGB")
    # What was padded stands to the right and below.
    assert difference(padded.crop((0, 0, *file.size)), file) < 2
    assert len(seen.recording.one_pass()) == 2


def test_a_detector_sees_the_image_scaled(loaded, coco_data):
    path = coco_data / "val" / "1.png"
    seen = look(loaded("boxes"), path)
    assert seen.images[0].mode == "RGB"
    assert isinstance(seen.asked[1][0], list)


def test_of_two_dates_there_are_two_images(loaded, pair_data):
    seen = look(loaded("change"), (pair_data / "before" / "field.npy", pair_data / "after" / "field.npy"))
    assert len(seen.images) == 2
    assert len(seen.recording.calls[0].x) == 2
    before, after = (np.asarray(image, float) for image in seen.images)
    # Each is stretched by itself; what has changed is brighter than the rest of the later date.
    assert after.std() > before.std()


def test_several_images_are_refused(loaded, label_data):
    with pytest.raises(ValueError, match="source must be a single image; got several"):
        look(loaded("segment"), label_data / "val" / "images")


@pytest.mark.parametrize("name", ["segment", "linearize"])
def test_scores_that_are_asked_about(loaded, label_data, name):
    model = loaded(name)
    seen = look(model, label_data / "val" / "images" / "1.png")
    found = relevance_of_scores(model, seen)
    if name == "linearize":
        assert found == {}
        return
    assert set(found) <= set(model.classes)
    for values in found.values():
        assert values.shape == seen.recording.calls[0].x.shape[:2]
        assert values.min() >= 0
        assert values.max() > 0


def test_objects_and_areas_are_named_best_first():
    objects = [{"labels": torch.tensor([2, 1]), "scores": torch.tensor([0.9, 0.4])}]
    named = {score.name: float(score.of(objects)) for score in leading_scores(objects, ("cat", "dog"))}
    assert named == pytest.approx({"object 1: dog": 0.9, "object 2: cat": 0.4})
    scores = torch.zeros(1, 3, 2, 2)
    scores[0, 2], scores[0, 0, 0, 0] = 1, 5
    named = {score.name: float(score.of(scores)) for score in leading_scores(scores, ("a", "b", "c"))}
    assert [*named.items()] == [("c", 1.0), ("a", 5.0)]


def test_integrated_gradients_add_up_to_the_score(loaded, label_data):
    """From the mean image to the image, up to the points that stand for the integral."""
    pytest.importorskip("captum")
    model = loaded("segment")
    seen = look(model, label_data / "val" / "images" / "1.png")
    (image,) = seen.asked[1]
    found = gradients_of_scores(model, seen, most=2)
    with torch.no_grad():
        before, after = (model.net(each).clone() for each in (torch.zeros_like(image), image))
    for score in leading_scores(after, model.classes, most=2):
        values = found[score.name]
        assert values.shape[1] == seen.recording[0].grid[0] * seen.recording[0].grid[1]
        pixels = image[0, 0].numel() / values.shape[1]
        change = float(score.of(after) - score.of(before))
        assert float(values.sum()) * pixels == pytest.approx(change, rel=0.1, abs=0.02)


def test_without_captum_there_are_none(loaded, label_data, monkeypatch):
    monkeypatch.setattr(scores_module, "find_spec", lambda name: None)
    model = loaded("segment")
    assert gradients_of_scores(model, look(model, label_data / "val" / "images" / "1.png")) == {}
