"""A trained net in Python: loaded in a line, given images of every kind, and what it answers."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import crosshead
from crosshead.runs.folder import RunError
from crosshead.runs.load import load_run
from crosshead.runs.trained import TrainedModel
from crosshead.tasks.classify.data import load_digits, load_fashion_mnist
from crosshead.tasks.classify.recipe import ClassifyRecipe
from crosshead.tasks.classify.transforms import eval_transform
from crosshead.tasks.task import DataError


@pytest.fixture(scope="module")
def model(trained) -> TrainedModel:
    return crosshead.load(trained.path)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Five digits, (5, 8, 8), uint8."""
    return load_digits().test.images[:5]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture
def folder(images, tmp_path):
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    return tmp_path


def test_a_run_is_loaded_with_what_it_knows(model, trained):
    assert repr(model) == "TrainedModel(ivit_nano, task=classify, 10 classes)"
    assert model.classes == tuple("0123456789")
    assert not model.net.training
    assert model.options == {"top"}
    best = crosshead.load(str(trained.path), best=True)
    assert best.net.state_dict().keys() == model.net.state_dict().keys()


def test_probabilities_are_those_of_the_net_on_prepared_images(model, trained, images):
    record, net = load_run(trained)
    assert isinstance(record.recipe, ClassifyRecipe)
    fraction = record.recipe.crop_fraction
    transform = eval_transform(
        image_size=8, mean=record.meta.mean, std=record.meta.std, crop_fraction=fraction
    )
    with torch.no_grad():
        logits = net(torch.stack([transform(Image.fromarray(image)) for image in images]))
    expected = logits.softmax(1).numpy()
    found = model.predict(list(images), top=3)
    for result, probabilities in zip(found, expected, strict=True):
        assert result.probabilities == pytest.approx(probabilities, abs=1e-6)
        best = np.argsort(-probabilities)[:3]
        assert [name for name, _ in result.ranked] == [str(index) for index in best]
        assert result.rows()[0]["probability"] == pytest.approx(probabilities.max(), abs=1e-6)


def test_one_input_gives_one_result_and_many_give_many(model, images, folder):
    alone = model.predict(images[0])
    assert alone.name == "image-1"
    assert json.loads(alone.to_json())["classes"][0]["name"] == alone.ranked[0][0]
    assert alone.plot().mode == "RGB"
    as_tensor = torch.from_numpy(images)[:, None]
    for many in (list(images), images[..., None], as_tensor, as_tensor / 255, folder, str(folder / "*.png")):
        results = model.predict(many)
        assert isinstance(results, list)
        assert [each.ranked[0][0] for each in results] == [
            each.ranked[0][0] for each in model.predict(list(images))
        ]
    assert model.predict(folder)[3].source == str(folder / "3.png")
    assert model.predict([]) == []


def test_batches_change_nothing_but_rounding(model, images):
    by_one, by_two = (model.predict(list(images), batch_size=size) for size in (1, 2))
    for one, two in zip(by_one, by_two, strict=True):
        assert one.probabilities == pytest.approx(two.probabilities, abs=1e-6)


def test_a_generator_is_read_only_as_far_as_results_are_asked_for(model, images):
    taken = []

    def source():
        for number, image in enumerate(images):
            taken.append(number)
            yield image

    results = model.predict(source(), batch_size=2)
    assert not taken
    next(results)
    assert taken == [0, 1]
    assert len(list(results)) == 4


def test_an_unreadable_file_stops_or_is_skipped_as_asked(model, folder):
    (folder / "2.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"2.png: not readable"):
        model.predict(folder)
    skipped = []
    results = list(model.predict_each(sorted(folder.glob("*.png")), skip=skipped.append))
    assert [result.name for result in results] == ["0", "1", "3", "4"]
    assert len(skipped) == 1


def test_wrong_options_are_named_before_anything_is_read(model):
    with pytest.raises(ValueError, match=r"^tile has no meaning for classify: leave it out; it takes top$"):
        model.predict("none.png", tile=3)
    with pytest.raises(ValueError, match=r"^batch_size must be 1 or more; got 0$"):
        model.predict("none.png", batch_size=0)
    with pytest.raises(ValueError, match=r"^top is 0"):
        model.predict(np.zeros((8, 8), np.uint8), top=0)


def test_what_is_no_run_and_a_device_that_is_not_there_are_refused(trained, tmp_path):
    with pytest.raises(RunError, match="is not a folder"):
        crosshead.load(tmp_path / "none")
    with pytest.raises(RunError, match=r"^accelerator=xpu9 cannot be used"):
        crosshead.load(trained.path, accelerator="xpu9")


def test_a_run_on_the_hub_is_fetched_without_anything_else_there(trained, monkeypatch):
    asked = []

    def snapshot_download(repository, *, allow_patterns):
        asked.append((repository, allow_patterns))
        return str(trained.path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert crosshead.load("hf-hub:someone/digits").task == "classify"
    assert asked == [("someone/digits", ["recipe.json", "model/*", "checkpoints/best.ckpt"])]


def test_a_hub_that_cannot_be_reached_is_told_in_one_line(monkeypatch):
    def snapshot_download(*_, **__):
        raise OSError("no network\nand a traceback")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(RunError, match=r"^hf-hub:someone/digits cannot be fetched \(no network\)[^\n]*$"):
        crosshead.load("hf-hub:someone/digits")


def test_pairs_are_tuples(dense_run, tmp_path):
    model = crosshead.load(dense_run("change").path)
    assert model.pairs
    dates = [np.random.default_rng(seed).integers(0, 255, (20, 30, 3)).astype(np.uint8) for seed in (0, 1)]
    one = model.predict((dates[0], dates[1]))
    assert one.labels.shape == (20, 30)
    many = model.predict([tuple(dates), tuple(dates[::-1])])
    assert [each.name for each in many] == ["image-1", "image-2"]
    with pytest.raises(TypeError, match="a pair must be a tuple"):
        model.predict("photo.png")


def test_a_model_that_comes_with_the_package(tmp_path, monkeypatch, trained):
    model = crosshead.load("ivit_pico.fashion_mnist", accelerator="cpu")
    assert model.classes[9] == "Ankle boot"
    assert len(model.predict(np.zeros((28, 28), np.uint8)).ranked) == 5
    # What a user has calls itself as it likes.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ivit_pico.fashion_mnist").symlink_to(trained.path)
    assert crosshead.load("ivit_pico.fashion_mnist").classes == tuple("0123456789")


@pytest.mark.parametrize(
    ("name", "published"), [("ivit_pico.fashion_mnist", 0.9251), ("swapped_vit.fashion_mnist", 0.8851)]
)
def test_models_in_the_package_have_the_accuracy_that_is_published(real_data, name, published):
    model = crosshead.load(name, accelerator="cpu")
    images = load_fashion_mnist(real_data / "fashion-mnist").test
    first: Any = [images[number] for number in range(1000)]
    results = model.predict([image for image, _ in first], batch_size=100)
    found = [model.classes.index(result.ranked[0][0]) for result in results]
    right = np.mean([label == answer for (_, label), answer in zip(first, found, strict=True)])
    # Of the first tenth of the test set; all of it is in docs/results.md.
    assert right == pytest.approx(published, abs=0.015)
