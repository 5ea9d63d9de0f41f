"""The room as the engine sees it: three splits, and nothing of the test set in a training."""

import io
import json
import shutil
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.utils.class_weight import compute_class_weight
from torch.utils.data import Dataset, Subset

from crosshead.tasks.classify.data import load_digits
from crosshead.tasks.classify.recipe import ClassifyRecipe
from crosshead.tasks.classify.task import TASK
from crosshead.tasks.task import DataError

DIGITS = ClassifyRecipe(
    data="digits",
    model="ivit_nano",
    model_args={"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 16), "head_dim": 8},
    epochs=1,
    batch_size=256,
    crop="center",
    flip=0.0,
)
FOLDER = replace(DIGITS, data="folder", image_size=16, batch_size=4)
CLASSES = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(5)]


def checked(recipe: ClassifyRecipe) -> list[Any]:
    return list(TASK.check_data(recipe))


def names(images: Dataset) -> set[str]:
    """The files of a set of image files, or of a part of one."""
    if isinstance(images, Subset):
        whole: Any = images.dataset
        return {whole.paths[index] for index in images.indices}
    files: Any = images
    return set(files.paths)


def test_val_is_carved_from_the_training_set_class_by_class():
    data: Any = TASK.data(DIGITS)
    published: Any = load_digits()
    assert data.train.dataset.images is not None
    assert np.array_equal(data.train.dataset.images, published.train.images)
    assert np.array_equal(data.test.images, published.test.images)
    assert sorted([*data.train.indices, *data.val.indices]) == list(range(len(published.train)))
    labels = published.train.labels
    for label in range(10):
        assert (labels[data.val.indices] == label).sum() == round(0.1 * (labels == label).sum())


def test_the_seed_and_the_fraction_decide_what_is_carved():
    data: list[Any] = [
        TASK.data(replace(DIGITS, **changes)) for changes in ({}, {}, {"seed": 1}, {"val": 0.5})
    ]
    assert data[0].val.indices == data[1].val.indices
    assert data[0].val.indices != data[2].val.indices
    assert len(data[3].val) == pytest.approx(1438 / 2, abs=5)


def test_without_a_fraction_everything_is_trained_on():
    data: Any = TASK.data(replace(DIGITS, val=0))
    assert data.val is None
    assert len(data.train) == 1438


@pytest.mark.parametrize("held_out", [["val"], ["test"], ["val", "test"], []])
def test_the_splits_of_a_folder_have_no_file_in_common(write_images, held_out):
    prefixes = [f"{split}/" for split in ["train", *held_out]] if held_out else [""]
    root = write_images(*(prefix + name for prefix in prefixes for name in CLASSES))
    data: Any = TASK.data(replace(FOLDER, data_dir=root))
    train, val, test = names(data.train), names(data.val), names(data.test)
    assert not train & val
    assert not (train | val) & test
    assert len(train | val | test) == len(list(root.rglob("*.png")))
    if held_out:
        assert test == {str(root / held_out[-1] / name) for name in CLASSES}
    if len(held_out) == 2:
        assert val == {str(root / "val" / name) for name in CLASSES}


def test_a_split_of_the_publisher_is_used_whatever_the_fraction(write_images):
    root = write_images(*(f"{split}/{name}" for split in ("train", "val", "test") for name in CLASSES))
    data: Any = TASK.data(replace(FOLDER, data_dir=root, val=0))
    assert data.val.root == root / "val"
    assert len(data.train) == len(CLASSES)


def test_the_size_of_the_recipe_takes_the_place_of_that_of_the_data():
    assert TASK.data(DIGITS).meta.image_size == 8
    assert TASK.data(replace(DIGITS, image_size=24)).meta.image_size == 24


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10", "folder", "imagenet1k"])
def test_a_folder_that_is_not_named_is_asked_for(name):
    for call in (TASK.data, checked):
        with pytest.raises(
            DataError, match=r" needs the folder of its images: name it with --data-dir$"
        ) as caught:
            call(replace(DIGITS, data=name))
        assert str(caught.value).startswith("classify" if name == "folder" else name)


@pytest.mark.parametrize("name", ["folder", "imagenet1k"])
def test_what_nobody_offers_is_not_downloaded(tmp_path, name):
    with pytest.raises(DataError, match="cannot be downloaded: leave --download out"):
        TASK.data(replace(DIGITS, data=name, data_dir=tmp_path, download=True))


def test_checking_data_lists_the_faults_of_a_folder_and_the_first_of_published_files(write_images, tmp_path):
    root = write_images(*(f"{split}/{name}" for split in ("train", "val") for name in CLASSES))
    recipe = replace(FOLDER, data_dir=root)
    (counts,) = checked(recipe)
    assert counts.totals == {"images": {"train": len(CLASSES) - 2, "val": 2, "test": len(CLASSES)}}
    shutil.copy(root / "train/cat/0.png", root / "val/dog/0.png")
    (root / "val/dog/1.png").write_bytes(b"broken")
    copy, broken = checked(recipe)
    assert copy.startswith(f"{root / 'val/dog/0.png'}: byte for byte the same as {root / 'train/cat/0.png'}")
    assert "of the train split" in copy
    assert broken.startswith(f"{root / 'val/dog/1.png'}: not readable")
    (counts,) = checked(DIGITS)
    assert counts.lines()[:2] == ["             train  val  test", "images       1,295  143   359"]
    shutil.rmtree(root / "train")
    assert checked(recipe) == [f"{root}: has val/ but no train/; add the training split"]
    (line,) = checked(replace(DIGITS, data="fashion-mnist", data_dir=tmp_path))
    assert line.startswith(f"{tmp_path}: no train-images-idx3-ubyte.gz")
    (line,) = checked(replace(DIGITS, data="imagenet1k", data_dir=tmp_path))
    assert line == f"{tmp_path}: no train/ and val/; give the folder that holds both"


def test_balanced_weights_are_those_of_the_training_images(write_images):
    numbers = {"cat": 12, "dog": 6, "fox": 3}
    root = write_images(*(f"{name}/{n}.png" for name, count in numbers.items() for n in range(count)))
    recipe = replace(FOLDER, data_dir=root, val=0)
    assert TASK.data(recipe).meta.class_weights is None
    recipe = replace(recipe, class_weights="balanced")
    data: Any = TASK.data(recipe)
    counts = np.bincount(data.train.labels)
    assert counts.tolist() == [10, 5, 2]
    # As scikit-learn has it.
    expected = compute_class_weight("balanced", classes=np.arange(3), y=data.train.labels)
    assert data.meta.class_weights == pytest.approx(expected.tolist())
    module: Any = TASK.module(recipe, data.meta, torch.nn.Identity(), {})
    assert module.train_criterion.weight.tolist() == pytest.approx(expected.tolist())
    assert module.val_criterion.weight is None


def test_weights_of_classes_and_a_sigmoid_for_each_exclude_each_other():
    with pytest.raises(ValueError, match="class_weights is balanced with binary_loss"):
        replace(FOLDER, class_weights="balanced", binary_loss=True).check()


class Untouchable(Dataset):
    """A test set that must not be looked at."""

    def __len__(self) -> int:
        raise AssertionError("the test set was looked at")

    __getitem__ = __len__  # pyright: ignore


@pytest.fixture(scope="module")
def trained():
    """Recipe, data and a module after an epoch in which the test set was out of reach."""
    data = TASK.data(DIGITS)
    module = TASK.module(DIGITS, data.meta, TASK.build(DIGITS, data.meta), {"learning_rate": 1e-2})
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    blind = replace(data, test=Untouchable())
    trainer.fit(module, datamodule=TASK.loaders(DIGITS, blind, data.meta))
    assert set(module.columns) <= set(trainer.callback_metrics)
    trainer.test(module, datamodule=TASK.loaders(DIGITS, data, data.meta), verbose=False)
    return data, module


def test_an_evaluation_measures_the_test_set(trained):
    data, module = trained
    evaluation = TASK.evaluation(module, data.meta, images=len(data.test), weights="last")
    confusion = np.array(evaluation.confusion)
    assert confusion.sum(1).tolist() == np.bincount(data.test.labels).tolist()
    assert evaluation.top1 == pytest.approx(np.trace(confusion) / 359)
    assert list(evaluation.per_class) == list("0123456789")
    assert evaluation.top5 is not None
    assert evaluation.top1 <= evaluation.top5
    assert [name for name, _ in evaluation.metrics()] == [
        "top-1 accuracy",
        "top-5 accuracy",
        "expected calibration error",
    ]
    assert evaluation.by_class() == ("accuracy", evaluation.per_class)


def test_the_confusion_is_drawn(trained):
    data, module = trained
    (picture,) = TASK.draw("digits-1", DIGITS, data, data.meta, module)
    assert picture.name == "confusion"
    assert min(Image.open(io.BytesIO(picture.content)).size) > 400


def test_an_image_is_predicted(trained, tmp_path, refused):
    data, module = trained
    path = tmp_path / "a.png"
    data.test[0][0].save(path)
    model = module.model.eval()
    inputs = [TASK.read(data.meta, path, position=0)]
    (prediction,) = TASK.predict(DIGITS, data.meta, model, inputs, top=3)
    classes = json.loads(prediction.to_json())["classes"]
    probabilities = [each["probability"] for each in classes]
    assert probabilities == sorted(probabilities, reverse=True)
    assert len(classes) == len(prediction.rows()) == 3
    assert prediction.name == "a"
    assert prediction.summary.startswith(f"{classes[0]['name']} {probabilities[0]:.2%}, ")
    assert len(TASK.predict(DIGITS, data.meta, model, inputs, top=99)[0].ranked) == 10
    with pytest.raises(ValueError, match="top is 0: give 1 or more"):
        TASK.predict(DIGITS, data.meta, model, inputs, top=0)
    refused(lambda: TASK.read(data.meta, tmp_path / "b.png", position=0), tmp_path / "b.png")
