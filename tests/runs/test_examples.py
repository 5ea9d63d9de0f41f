"""Pictures of a training are what its run predicts, of the same few images each time."""

import dataclasses
import io
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from crosshead.runs import engine
from crosshead.runs.examples import MOST_PIXELS, ShowExamples
from crosshead.runs.folder import RunFolder
from crosshead.runs.record import read_record
from crosshead.runs.rows import read_metrics
from crosshead.runs.tensorboard import GroupedTensorBoard
from crosshead.runs.trained import load
from crosshead.tasks.pictures import chosen
from crosshead.tasks.sources import Input, NamedImage
from crosshead.tasks.task import Example, task_of


def pictures(run: RunFolder) -> dict[str, dict[int, np.ndarray]]:
    """What TensorBoard shows, by tag and step."""
    found = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"images": 0})
    found.Reload()
    return {
        tag: {
            event.step: np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
            for event in found.Images(tag)
        }
        for tag in found.Tags()["images"]
    }


def predicted(run: RunFolder, split: str) -> dict[str, np.ndarray]:
    """What a run of digits makes of the images that are shown."""
    model, images = load(run.path, accelerator="cpu"), getattr(data_of(run), split)
    found = {}
    for place in chosen(len(images), most=1):
        image, label = images[place]
        named = NamedImage(image, name=f"{split} image {place}, truth: {label}", source="")
        found[f"examples/{split}_image_{place}"] = np.asarray(model.predict(named).plot())
    return found


def data_of(run: RunFolder) -> Any:
    recipe = read_record(run).recipe
    return task_of(recipe.task).data(recipe)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[tag], other[tag]) for tag in one)


def test_the_last_pictures_are_what_the_run_predicts_and_the_first_are_of_the_same_images(trained):
    found = pictures(trained)
    assert all(list(steps) == [5, 10] for steps in found.values())
    first, last = ({tag: steps[step] for tag, steps in found.items()} for step in (5, 10))
    assert len(last) == 1
    assert same(last, predicted(trained, "val"))
    assert first.keys() == last.keys()
    assert not any(np.array_equal(first[tag], last[tag]) for tag in first)


@pytest.mark.parametrize("name", ["segment", "boxes", "masks", "change", "linearize"])
def test_every_task_shows_what_it_predicts_and_what_is_labelled(dense_run, name):
    run = dense_run(name)
    model, data, found = load(run.path, accelerator="cpu"), data_of(run), pictures(run)
    task = task_of(model.task)
    expected = {}
    for example in task.examples(data.meta, data.val, split="val"):
        (result,) = task.predict(model.recipe, model.meta, model.net, [example.input])
        tag = f"examples/{example.name.replace(' ', '_')}"
        expected[tag] = np.asarray(result.plot())
        if example.truth is not None:
            expected[f"{tag}_truth"] = np.asarray(example.truth)
    assert any(tag.endswith("_truth") for tag in expected) == (name != "linearize")
    assert all(list(steps) == [2] for steps in found.values())
    assert same({tag: steps[2] for tag, steps in found.items()}, expected)


def test_without_a_validation_set_training_images_are_shown_by_the_averaged_weights(tiny, tmp_path):
    run = RunFolder(tmp_path / "run")
    engine.train("digits", dataclasses.replace(tiny, val=0.0, ema=0.9, epochs=1), run)
    assert same(
        {tag: picture for tag, steps in pictures(run).items() for picture in steps.values()},
        predicted(run, "train"),
    )


def test_a_resumed_run_goes_on(copied):
    record = read_record(copied)
    engine.resume(copied, dataclasses.replace(record, recipe=dataclasses.replace(record.recipe, epochs=3)))
    found = pictures(copied)
    assert found
    assert all(list(steps) == [5, 10, 15] for steps in found.values())


def epoch_ends(epoch: int, **changes: Any) -> Any:
    """A trainer at the end of an epoch, counted from 1."""
    state = {"current_epoch": epoch - 1, "max_epochs": 21, "should_stop": False, "is_global_zero": True}
    return SimpleNamespace(global_step=epoch, **{**state, **changes})


def test_training_is_left_alone(copied, tiny):
    task, data = task_of("classify"), data_of(copied)
    show = ShowExamples().of_run(GroupedTensorBoard(copied), copied, task=task, recipe=tiny, data=data)
    module = engine.make_module(task, tiny, data.meta, task.build(tiny, data.meta)).train()
    weights = {name: value.clone() for name, value in module.state_dict().items()}

    def generators() -> tuple:
        state: Any = np.random.get_state()
        return random.getstate(), state[1].tobytes(), state[2], torch.get_rng_state().tolist()

    before = generators()
    show.on_train_epoch_end(epoch_ends(1), module)
    assert generators() == before
    assert all(part.training for part in module.modules())
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())


def test_labels_are_shown_once_and_large_pictures_are_made_smaller(copied, tiny):
    large = Image.new("RGB", (3000, 1500))
    example = Example(name="val image 3", input=Input(name="", source="", content=None), truth=large)
    task: Any = SimpleNamespace(
        examples=lambda meta, images, split: [example],
        preview=lambda *_: [SimpleNamespace(plot=lambda: large)],
    )
    logger = GroupedTensorBoard(copied)
    show = ShowExamples().of_run(logger, copied, task=task, recipe=tiny, data=data_of(copied))
    for step in (20, 40):
        show.show(torch.nn.Identity(), SimpleNamespace(), step)  # pyright: ignore[reportArgumentType]
    logger.save()
    found = pictures(copied)
    assert list(found["examples/val_image_3"]) == [20, 40]
    assert list(found["examples/val_image_3_truth"]) == [20]
    for tag in ("examples/val_image_3", "examples/val_image_3_truth"):
        height, width, _ = found[tag][20].shape
        assert height * width <= MOST_PIXELS
        assert width == pytest.approx(2 * height, abs=2)


@pytest.mark.parametrize(
    ("val_every", "has_val", "changes", "expected"),
    [
        (1, True, {}, [1, 2, 4, 8, 16, 21]),
        (3, True, {}, [3, 6, 12, 21]),
        (3, False, {}, [1, 2, 4, 8, 16, 21]),
        (1, True, {"is_global_zero": False}, []),
    ],
)
def test_pictures_become_rarer_and_the_last_epoch_has_some(
    tiny, copied, monkeypatch, val_every, has_val, changes, expected
):
    shown: list[int] = []
    monkeypatch.setattr(ShowExamples, "show", lambda self, net, module, step: shown.append(step))
    data: Any = SimpleNamespace(val=[] if has_val else None)
    recipe = dataclasses.replace(tiny, val_every=val_every)
    logger = GroupedTensorBoard(copied)
    show = ShowExamples().of_run(logger, copied, task=task_of("classify"), recipe=recipe, data=data)
    module: Any = SimpleNamespace(device="cpu")
    for epoch in range(1, 22):
        show.on_train_epoch_end(epoch_ends(epoch, **changes), module)
    assert shown == expected


def test_an_epoch_that_patience_makes_the_last_has_pictures(tiny, tmp_path):
    recipe = dataclasses.replace(tiny, epochs=5, patience=2, lr=0.0, batch_size=512)
    run = RunFolder(tmp_path / "run")
    engine.train("digits", recipe, run)
    assert [row["epoch"] for row in read_metrics(run)] == ["1", "2", "3"]
    assert all(list(steps) == [2, 4, 6] for steps in pictures(run).values())
