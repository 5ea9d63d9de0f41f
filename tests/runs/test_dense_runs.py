"""The promises of `test_engine.py`, for the tasks that say where things are."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from safetensors.torch import load_file

from crosshead.runs import engine
from crosshead.runs.folder import RunFolder
from crosshead.runs.load import load_run
from crosshead.runs.record import read_record
from crosshead.runs.rows import AFTER, BEFORE, read_metrics
from crosshead.tasks.seeding import seed_everything
from crosshead.tasks.task import task_of

COLUMNS = {
    "segment": ("train_loss", "train_pixel_accuracy", "val_loss", "val_pixel_accuracy", "val_mean_iou"),
    "boxes": ("train_loss", "val_box_ap50", "val_box_ap"),
    "masks": ("train_loss", "val_box_ap50", "val_box_ap", "val_mask_ap50", "val_mask_ap"),
    "retinanet": ("train_loss", "val_box_ap50", "val_box_ap"),
    "change": (
        "train_loss",
        "train_accuracy",
        *("val_loss", "val_accuracy", "val_kappa", "val_auc", "val_f1"),
    ),
    "linearize": ("train_loss", "val_loss", "val_cosine", "val_centered_cosine"),
}
# Everything that draws random numbers.
RANDOM = {
    "segment": {
        "decoder": "upernet",
        "decoder_dim": 16,
        "color_jitter": 0.4,
        "vertical_flip": 0.5,
        "class_weights": "balanced",
    },
    "boxes": {"color_jitter": 0.4, "vertical_flip": 0.5, "scale": (0.8, 1.25)},
    "masks": {"color_jitter": 0.4, "crop": 32},
    "change": {"dropout": 0.2},
    "linearize": {"blockwise": True, "kept_crops": 8, "ema": 0.0, "color_jitter": 0.3, "drop_path": 0.0},
}


class StopAt(Callback):
    """Fails after one step, as a crash would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            raise ConnectionError("crashed")


def measured(run: RunFolder) -> list[dict[str, str]]:
    """The rows of metrics.csv without the clock."""
    return [
        {name: value for name, value in row.items() if name not in ("seconds", "images_per_second")}
        for row in read_metrics(run)
    ]


def same_bits(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_bits(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same_bits, one, other))
    # A score that is no number is the same as another.
    return one == other or (one != one and other != other)


def same_runs(one: RunFolder, other: RunFolder) -> bool:
    files = (run.path / "checkpoints" for run in (one, other))
    checkpoints = [
        [torch.load(folder / name, weights_only=True) for name in ("last.ckpt", "best.ckpt")]
        for folder in files
    ]
    return (
        measured(one) == measured(other)
        and same_bits(load_file(one.weights), load_file(other.weights))
        and same_bits(*checkpoints)
    )


@pytest.mark.parametrize("name", COLUMNS)
def test_a_run_folder_holds_all_that_is_promised(dense_run, dense_recipe, name):
    run, recipe = dense_run(name), dense_recipe(name)
    names = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    events = {each for each in names if each.startswith("tensorboard/")}
    assert any("events" in each for each in events)
    assert names - events == {
        "recipe.json",
        "metrics.csv",
        "curves.png",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        "model/config.json",
        "model/model.safetensors",
    }
    record = read_record(run)
    assert record.recipe == recipe
    assert record.meta == task_of(recipe.task).data(recipe).meta
    (row,) = read_metrics(run)
    assert tuple(row) == (*BEFORE, *COLUMNS[name], *AFTER)
    assert (row["epoch"], row["step"]) == ("1", "2")
    assert 0 < float(row["train_loss"]) < 20
    with Image.open(run.curves) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000


@pytest.mark.parametrize("name", COLUMNS)
def test_a_run_comes_back_with_its_weights(dense_run, name):
    _, model = load_run(dense_run(name))
    assert not model.training
    weights = load_file(dense_run(name).weights)
    assert same_bits(weights, dict(model.state_dict()))
    best = load_run(dense_run(name), best=True)[1]
    assert same_bits(dict(best.state_dict()), weights)


@pytest.mark.parametrize(
    ("name", "changes", "step"),
    # A linearization while a block learns, when the whole net learns after that, and in all layers at once.
    [
        *((name, {}, 3) for name in RANDOM),
        ("linearize", {}, 7),
        ("linearize", {"attention_epochs": 2, "blockwise": False}, 3),
    ],
)
def test_a_crashed_run_resumes_to_the_same_bits(dense_recipe, tmp_path, name, changes, step):
    common = {"epochs": 2, "workers": 1, "ema": 0.9, "drop_path": 0.2, "clip_grad": 1.0}
    recipe = dense_recipe(name, **{**common, **RANDOM[name], **changes})
    straight, crashed = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "crashed")
    engine.train(name, recipe, straight)
    with pytest.raises(ConnectionError):
        engine.train(name, recipe, crashed, callbacks=[StopAt(step)])
    assert measured(crashed) == measured(straight)[: step // 2]
    assert not same_bits(load_file(crashed.weights), load_file(straight.weights))
    record = read_record(crashed)
    fewer = dataclasses.replace(record.recipe, workers=0)
    engine.resume(crashed, dataclasses.replace(record, recipe=fewer))
    assert same_runs(straight, crashed)


def test_epochs_without_a_test_have_no_test_figures_and_are_never_the_best(dense_recipe, tmp_path):
    recipe = dense_recipe("change", epochs=4, val_every=3, ema=0.9)
    straight, crashed = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "crashed")
    engine.train("change", recipe, straight)
    for row in measured(straight):
        tested = int(row["epoch"]) in (3, 4)  # the last one always
        assert all(
            bool(row[column]) == (tested or column.startswith("train_")) for column in COLUMNS["change"]
        )
    best = torch.load(straight.best, weights_only=True)
    scores = {int(row["epoch"]): float(row["val_f1"]) for row in measured(straight) if row["val_f1"]}
    assert best["epoch"] + 1 == max(scores, key=lambda epoch: scores[epoch])
    # The last finished epoch is the second one, which is not tested.
    with pytest.raises(ConnectionError):
        engine.train("change", recipe, crashed, callbacks=[StopAt(5)])
    assert torch.load(crashed.last, weights_only=True)["epoch"] == 1
    assert crashed.curves.stat().st_size > 10_000
    engine.resume(crashed, read_record(crashed))
    assert same_runs(straight, crashed)


@pytest.mark.parametrize("name", COLUMNS)
def test_less_memory_and_another_memory_format_change_no_loss(dense_recipe, name):
    recipe = dense_recipe(name)
    task = task_of(recipe.task)
    data = task.data(recipe)
    meta, loaders = data.meta, task.loaders(recipe, data, data.meta)
    items = loaders.training_items()(0)
    batch = loaders._loader(items, 2, drop_last=True)  # pyright: ignore[reportArgumentType]
    first = next(iter(batch))
    state = copy.deepcopy(task.build(recipe, meta).state_dict())
    results = []
    for changes in ({}, {"grad_checkpointing": True}, {"channels_last": True}):
        changed = dataclasses.replace(recipe, **changes)
        module: Any = engine.make_module(task, changed, meta, task.build(changed, meta))
        module.model.load_state_dict(state)
        parts = list(module.model.modules())
        assert any(getattr(part, "grad_checkpointing", False) for part in parts) == (
            "grad_checkpointing" in changes
        )
        kernel = next(part.weight for part in parts if isinstance(part, torch.nn.Conv2d))
        assert kernel.is_contiguous(memory_format=module.memory_format)
        assert (module.memory_format == torch.channels_last) == ("channels_last" in changes)
        seed_everything(0)
        loss = module.train().training_step(copy.deepcopy(first), 0)["loss"]
        loss.backward()
        results.append((loss.item(), kernel.grad))
    for loss, gradient in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-4)
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-2, atol=1e-4)
