import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from crosshead.tasks.counts import Counts
from crosshead.tasks.pictures import draw_labels
from crosshead.tasks.seeding import seed_everything
from crosshead.tasks.segment.task import TASK
from crosshead.tasks.task import Data


class Forbidden(Dataset):
    """Must not be read."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int):
        raise AssertionError("read")


def trainer() -> pl.Trainer:
    return pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
    )


def module_of(recipe: Any, meta: Any) -> Any:
    seed_everything(0)
    return TASK.module(recipe, meta, TASK.build(recipe, meta), {})


def confusion_of(pairs: Iterator[tuple[np.ndarray, np.ndarray]], classes: int) -> list[list[int]]:
    confusion = np.zeros((classes, classes), int)
    for truth, found in pairs:
        np.add.at(confusion, (truth[truth != 255], found[truth != 255]), 1)
    return confusion.tolist()


def test_training_reads_no_test_image_and_testing_no_other(dense_recipe):
    recipe = dense_recipe("segment")
    data: Any = TASK.data(recipe)
    never, module = Forbidden(), module_of(recipe, data.meta)
    training = trainer()
    training.fit(module, datamodule=TASK.loaders(recipe, replace(data, test=never), data.meta))
    assert {"val_loss", "val_mean_iou", "train_loss"} <= training.callback_metrics.keys()
    assert module.metrics is None
    only_test = Data(train=never, val=never, test=data.test, meta=data.meta)
    trainer().test(module, datamodule=TASK.loaders(recipe, only_test, data.meta), verbose=False)
    labelled = sum(int((labels != 255).sum()) for _, labels in data.test)
    evaluation = TASK.evaluation(module, data.meta, images=len(data.test), weights="last")
    assert np.sum(evaluation.confusion) == labelled


def test_without_a_validation_set_nothing_is_validated(dense_recipe, label_data, tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).symlink_to(label_data / split)
    recipe = dense_recipe("segment", data_dir=tmp_path, val=0.0)
    data = TASK.data(recipe)
    assert data.val is None
    training = trainer()
    training.fit(module_of(recipe, data.meta), datamodule=TASK.loaders(recipe, data, data.meta))
    assert not {name for name in training.callback_metrics if name.startswith("val_")}


@pytest.mark.parametrize("in_chans", [1, 3])
def test_what_predict_writes_is_what_evaluate_counted(dense_recipe, label_data, in_chans):
    recipe = dense_recipe("segment", in_chans=in_chans)
    data: Any = TASK.data(recipe)
    meta, module = data.meta, module_of(recipe, data.meta)
    trainer().test(module, datamodule=TASK.loaders(recipe, data, meta), verbose=False)
    evaluation = TASK.evaluation(module, meta, images=len(data.test), weights="last")
    model, (width, height) = module.model.eval(), data.test[0][0].size
    # The images have to go through in windows for this to say anything of those.
    assert max(width, height) > recipe.crop

    def written() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        paths = sorted((label_data / "test" / "images").iterdir())
        for path, (_, truth) in zip(paths, data.test, strict=True):
            (found,) = TASK.predict(recipe, meta, model, [TASK.read(meta, path, position=0)])
            yield truth, np.asarray(found.maps()[".labels.png"])

    assert evaluation.confusion == confusion_of(written(), 3)
    assert sum(1 for row in np.transpose(evaluation.confusion) if row.any()) > 1


def test_an_evaluation_is_drawn(dense_recipe):
    recipe = dense_recipe("segment")
    data = TASK.data(recipe)
    module = module_of(recipe, data.meta)
    trainer().test(module, datamodule=TASK.loaders(recipe, data, data.meta), verbose=False)
    pictures = TASK.draw("a run", recipe, data, data.meta, module)
    assert [picture.name for picture in pictures] == ["confusion", "examples"]
    for picture in pictures:
        assert min(Image.open(io.BytesIO(picture.content)).size) > 200


def test_masks_of_objects_are_painted(dense_recipe, coco_data):
    read = TASK.data(dense_recipe("segment"))
    painted = TASK.data(dense_recipe("segment", data="folder", data_dir=coco_data))
    assert read.meta.classes == painted.meta.classes == ("background", "red", "blue")
    assert read.meta.ignore_index == painted.meta.ignore_index == 255
    for position, split in ((0, "train"), (7, "train"), (1, "val"), (3, "test")):
        (image, labels), (other, others) = getattr(read, split)[position], getattr(painted, split)[position]
        assert image == other
        # Where two rectangles overlap, one order of painting is as good as another.
        assert (labels == others).mean() > 0.95
        assert (255 in labels) == (position in (3, 7))


def test_both_kinds_of_data_are_checked(dense_recipe, label_data, coco_data, tmp_path):
    for folder in (label_data, coco_data):
        (counts,) = TASK.check_data(dense_recipe("segment", data_dir=folder))
        assert isinstance(counts, Counts)
    for choices in ({"data": "folder"}, {"data": "folder"}, {"data": "fashion-scenes"}):
        findings = list(TASK.check_data(dense_recipe("segment", data_dir=tmp_path, **choices)))
        assert len(findings) == 1
        assert str(tmp_path) in str(findings[0])


def test_where_masks_are_painted_their_pixels_are_counted(dense_recipe, coco_data):
    recipe = dense_recipe("segment", data_dir=coco_data)
    (counts,) = TASK.check_data(recipe)
    assert isinstance(counts, Counts)
    data = TASK.data(recipe)
    for split in ("train", "val", "test"):
        labels = np.concatenate([labels.flatten() for _, labels in getattr(data, split)])
        assert counts.totals["images"][split] == len(getattr(data, split))
        for label, name in enumerate(("background", "red", "blue")):
            assert counts.classes[f"pixels of {name}"][split] == (labels == label).sum() > 0


def test_objects_without_masks_are_told_and_nothing_is_counted(dense_recipe, write_coco_data, tmp_path):
    root = write_coco_data(tmp_path / "coco")
    for split in ("train", "val", "test"):
        document = json.loads((root / f"{split}.json").read_text())
        for annotation in document["annotations"]:
            del annotation["segmentation"]
        (root / f"{split}.json").write_text(json.dumps(document))
    *faults, counts = TASK.check_data(dense_recipe("segment", data_dir=root))
    assert all("annotations has a mask" in str(fault) for fault in faults)
    assert len(faults) == 3
    assert isinstance(counts, Counts)
    assert set(counts.classes["pixels of red"].values()) == {0}


def test_an_example_has_its_labels_drawn_as_results_are(dense_recipe):
    data: Any = TASK.data(dense_recipe("segment"))
    # The last one has pixels without a label.
    for image, labels in (data.val[0], data.val[3]):
        example: Any = TASK.example(data.meta, (image, labels), name="val image")
        assert example.input.content == image
        drawn = draw_labels(image, labels, classes=data.meta.classes, ignore_index=255)
        assert example.truth.crop((0, 0, *drawn.size)) == drawn
        assert example.truth.height > drawn.height


def test_balanced_weights_are_those_of_the_training_pixels(dense_recipe):
    assert TASK.data(dense_recipe("segment")).meta.class_weights is None
    recipe = dense_recipe("segment", class_weights="balanced")
    data: Any = TASK.data(recipe)
    counts = np.sum([np.bincount(labels.flatten(), minlength=256)[:3] for _, labels in data.train], axis=0)
    assert data.meta.class_weights == pytest.approx(counts.sum() / (3 * counts))
    module = TASK.module(recipe, data.meta, torch.nn.Identity(), {})
    assert module.class_weights is not None
    assert module.class_weights.tolist() == pytest.approx(data.meta.class_weights)


@pytest.mark.parametrize("grad_checkpointing", [False, True])
def test_the_net_recomputes_where_the_recipe_says(dense_recipe, grad_checkpointing):
    recipe = dense_recipe("segment", grad_checkpointing=grad_checkpointing)
    with torch.device("meta"):
        net: Any = TASK.build(recipe, TASK.data(recipe).meta)
    assert grad_checkpointing == any(getattr(module, "grad_checkpointing", False) for module in net.modules())
