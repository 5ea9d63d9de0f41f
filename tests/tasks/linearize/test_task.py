"""A linearized ViT as the engine, timm and an evaluation see it."""

import dataclasses
import io
import json
import logging
import shutil
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from lightning.pytorch import Callback
from PIL import Image
from torch.utils.data import Dataset

from crosshead.runs import engine
from crosshead.runs.evaluate import evaluate
from crosshead.runs.folder import RunError, RunFolder
from crosshead.runs.load import load_run
from crosshead.tasks import task
from crosshead.tasks.linearize.recipe import LinearizeRecipe
from crosshead.tasks.linearize.task import TASK, sizes
from crosshead.tasks.linearize.teacher import timm_config
from crosshead.tasks.task import Data


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Noise on grounds of two colours, in a folder for each, below train/ and test/."""
    root, generator = tmp_path_factory.mktemp("labelled"), np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 5)):
        for kind, ground in (("dark", 40), ("light", 200)):
            (root / split / kind).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(ground - 40, ground + 40, (20, 24, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / kind / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def run(dense_recipe, labelled, write_vit, tmp_path_factory) -> RunFolder:
    """A finished run of a teacher with a classifier of two classes, not to be changed."""
    folder = tmp_path_factory.mktemp("linear")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    recipe = dense_recipe(
        "linearize",
        model=str(write_vit(folder / "vit", num_classes=2)),
        data_dir=labelled,
        keep=(-1,),
        landmarks=(2,),
        epochs=1,
        attention_epochs=1,
        blockwise=True,
    )
    run = RunFolder(folder / "run")
    engine.train("linearize", recipe, run)
    return run


@pytest.fixture(scope="module")
def evaluated(run):
    return evaluate(run, accelerator="cpu")


def test_timm_loads_it_in_one_line(run):
    _, model = load_run(run)
    loaded: Any = timm.create_model(f"local-dir:{run.model}", pretrained=True).eval()
    images = torch.randn(2, 3, 16, 24)
    assert torch.equal(loaded(images), model(images))
    assert loaded(images).shape == (2, 2)
    assert timm_config(loaded)["mean"] == [0.4, 0.4, 0.4]
    larger = timm.create_model(f"local-dir:{run.model}", pretrained=True, img_size=32).eval()
    assert larger(torch.randn(1, 3, 32, 32)).shape == (1, 2)
    features = timm.create_model(f"local-dir:{run.model}", pretrained=True, features_only=True)
    assert [each.shape[1:] for each in features(images)] == 3 * [(24, 4, 6)]


def test_an_evaluation_has_three_nets_side_by_side(evaluated, run):
    found, _ = evaluated
    assert found.images == 10
    assert found.columns == ("teacher", "swapped", "linearized")
    for size in ("16", "32"):
        by_net = found.agreement[size]
        assert by_net["teacher"]["worst_centered_cosine"] > 1 - 1e-5
        assert by_net["swapped"] != by_net["linearized"]
        for net in by_net.values():
            assert net["worst_cosine"] <= net["cosine"]
            assert net["worst_centered_cosine"] <= net["centered_cosine"] < net["cosine"] + 1e-6
        assert found.cost[size]["teacher"]["milliseconds"] > 0
        assert found.cost[size]["linearized"]["milliseconds"] > 0
    assert json.loads(run.evaluation.read_text())["agreement"] == found.agreement


def test_training_has_brought_it_closer(evaluated):
    by_net = evaluated[0].agreement["16"]
    assert by_net["linearized"]["centered_cosine"] > by_net["swapped"]["centered_cosine"]


def test_labels_tell_what_is_in_the_features(evaluated):
    labels = evaluated[0].labels
    assert labels.keys() == {"teacher", "swapped", "linearized"}
    for found in labels.values():
        # The grounds differ by more than the noise: any features tell them apart.
        assert found["knn"] == found["probe"] == 1.0
        assert 0 <= found["accuracy"] <= 1
    assert "accuracy of a linear probe" in {row[0] for row in evaluated[0].metrics()}


def test_each_row_has_a_cell_for_each_net(evaluated):
    assert {len(row) for row in evaluated[0].metrics()} == {4}


def test_tokens_are_drawn(evaluated):
    ((name, path),) = evaluated[1]
    assert name == "tokens"
    with Image.open(io.BytesIO(path.read_bytes())) as picture:
        assert picture.format == "PNG"


def test_without_labels_there_is_no_accuracy(dense_run, tmp_path):
    shutil.copytree(dense_run("linearize").path, tmp_path / "run")
    found: Any = evaluate(RunFolder(tmp_path / "run"), accelerator="cpu")[0]
    assert found.labels == {}
    assert not any("accuracy" in row[0] for row in found.metrics())


def test_photographs_of_ones_own_are_all_tested_and_nothing_is_learned_from_them(
    run, labelled, dense_recipe, tmp_path
):
    shutil.copytree(run.path, tmp_path / "run")
    shutil.copytree(labelled / "test", tmp_path / "photos" / "test" / "holiday")
    found: Any = evaluate(RunFolder(tmp_path / "run"), data_dir=tmp_path / "photos", accelerator="cpu")[0]
    assert (found.images, found.labels) == (10, {})
    recipe = dense_recipe("linearize", data_dir=tmp_path / "photos")
    with pytest.raises(RunError, match="photos: holds no training images"):
        engine.train("linearize", recipe, RunFolder(tmp_path / "new"))


def test_a_fresh_student_is_about_to_learn(dense_recipe):
    student = TASK.build(dense_recipe("linearize"), TASK.data(dense_recipe("linearize")).meta)
    assert all(module.training for module in student.modules())
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_each_block_that_changes_has_an_epoch_before_the_others(dense_recipe):
    for changes, expected in (
        ({"blockwise": False}, 0),
        ({"attention_epochs": 2}, 2),
        ({"attention_epochs": 2, "blockwise": True}, 5),
        ({"blockwise": True}, 3),
        ({"blockwise": True, "keep": (-1,)}, 3),
        ({"blockwise": True, "keep": (-1,), "trained": "attention"}, 2),
    ):
        recipe = dense_recipe("linearize", **changes)
        meta = TASK.data(recipe).meta
        assert TASK.module(recipe, meta, TASK.build(recipe, meta), {}).epochs_before == expected


def test_attention_warms_up_where_no_epochs_come_after_it(dense_recipe, tmp_path):
    rates = []

    class Look(Callback):
        def on_train_batch_end(self, trainer, *_):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    recipe = dense_recipe("linearize", epochs=0, attention_epochs=2, warmup_epochs=1)
    engine.train("linearize", recipe, RunFolder(tmp_path / "run"), callbacks=[Look()])
    assert rates[:3] == [0, recipe.lr / 2, recipe.lr]


def loaders_at(recipe: LinearizeRecipe, epoch: int, *, kind: str) -> Any:
    data = TASK.data(recipe)
    loaders: Any = TASK.loaders(recipe, data, data.meta)
    module = SimpleNamespace(stage=SimpleNamespace(kind=kind))
    loaders.trainer = SimpleNamespace(
        world_size=1, global_rank=0, current_epoch=epoch, lightning_module=module
    )
    return loaders


def test_a_block_sees_each_kept_batch_equally_often_in_an_order_of_its_own(dense_recipe):
    recipe = dense_recipe("linearize", crops=32, kept_crops=16, batch_size=4)
    orders = [
        [int(number) for number in loaders_at(recipe, epoch, kind="block").train_dataloader()]
        for epoch in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    for order in orders:
        assert sorted(order[:4]) == sorted(order[4:]) == [0, 1, 2, 3]
    loaders = loaders_at(recipe, 2, kind="block")
    batches = [[images for images, _ in loaders.crops_to_keep()] for _ in range(2)]
    assert len(batches[0]) == 4
    assert all(torch.equal(one, other) for one, other in zip(*batches, strict=True))


def test_an_epoch_of_the_whole_net_has_as_many_crops_as_were_asked_for(dense_recipe):
    recipe = dense_recipe("linearize", crops=6, batch_size=2)
    loaders = loaders_at(recipe, 0, kind="features")
    assert loaders.steps_per_epoch(1) == len(list(loaders.train_dataloader())) == 3


def test_of_many_validation_images_a_part_is_looked_at(dense_recipe, monkeypatch):
    monkeypatch.setattr("crosshead.tasks.linearize.task.VALIDATED", 1)
    assert len(loaders_at(dense_recipe("linearize"), 0, kind="features").val) == 1


def test_without_further_epochs_attention_and_the_end_of_each_mlp_have_changed_and_no_more(
    dense_recipe, tmp_path
):
    recipe = dense_recipe("linearize", blockwise=True, epochs=0)
    run = RunFolder(tmp_path / "run")
    engine.train("linearize", recipe, run)
    learned = load_run(run)[1].state_dict()
    before = TASK.build(recipe, TASK.data(recipe).meta).state_dict()
    changed = {name for name, tensor in learned.items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if ".attn." in name or ".mlp.fc2." in name}


def test_each_stage_begins_with_an_optimiser_that_remembers_no_other(dense_recipe, tmp_path):
    remembered = {}

    class Look(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            remembered[trainer.current_epoch, batch_idx] = len(trainer.optimizers[0].state)

    recipe = dense_recipe("linearize", blockwise=True)
    engine.train("linearize", recipe, RunFolder(tmp_path / "run"), callbacks=[Look()])
    of_attention = remembered[0, 1]
    assert of_attention > 0
    assert [remembered[epoch, 0] for epoch in range(4)] == 4 * [0]
    assert remembered[2, 1] == of_attention < remembered[3, 1]


def test_sizes_begin_with_that_of_the_training(dense_recipe):
    meta = TASK.data(dense_recipe("linearize")).meta
    for wanted, expected in (((), (16, 32)), ((32, 16, 64, 32), (16, 32, 64)), ((16,), (16,))):
        assert sizes(dense_recipe("linearize", test_sizes=wanted), meta) == expected
    assert sizes(dense_recipe("linearize", image_size=(16, 24)), meta) == (16, 24)


@pytest.mark.parametrize("data", ["fashion-mnist", "cifar10"])
def test_published_sets_are_learned_from(real_data, write_vit, tmp_path, data):
    grey = data == "fashion-mnist"
    size = 28 if grey else 32
    recipe = LinearizeRecipe(
        model=str(write_vit(tmp_path / "vit", num_classes=10, in_chans=1 if grey else 3, img_size=size)),
        data=data,
        data_dir=real_data / data,
        epochs=1,
        landmarks=(3, 3),
        accelerator="cpu",
        workers=0,
        threads=1,
    )
    loaded = TASK.data(recipe)
    assert (loaded.meta.image_size, loaded.meta.in_chans) == (size, 1 if grey else 3)
    loaders: Any = TASK.loaders(recipe, loaded, loaded.meta)
    # Test images, the same at twice the size, and labelled training images to compare with.
    assert len(loaders.further) == 2
    image, label = loaders.further[-1][0]
    assert image.shape == (loaded.meta.in_chans, size, size)
    assert 0 <= label < 10


class Grey(Dataset):
    """A dozen grey images of one class."""

    labels = np.zeros(12, int)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new("L", (20, 24), 20 * index), 0


@pytest.mark.parametrize("channels", [1, 3])
def test_images_take_the_channels_of_the_teacher(dense_recipe, write_vit, tmp_path, channels):
    recipe = dense_recipe("linearize", model=str(write_vit(tmp_path / "vit", in_chans=channels)))
    meta = TASK.data(recipe).meta
    data = Data(train=Grey(), val=Grey(), test=Grey(), meta=meta)
    loaders: Any = TASK.loaders(recipe, data, meta)
    parts = [loaders.training_items()(0), loaders.val, loaders.test, *loaders.further]
    for image, _ in (part[3] for part in parts):
        assert image.shape[0] == channels
        assert torch.equal(image, image[:1].expand_as(image))
    (example, *_) = TASK.examples(meta, Grey(), split="val")
    assert example.input.content.mode == ("L" if channels == 1 else "RGB")


def test_no_example_comes_twice_where_an_epoch_repeats_its_images(dense_recipe, monkeypatch):
    monkeypatch.setattr(task, "EXAMPLES", 4)
    recipe = dense_recipe("linearize", val=0.0, crops=5 * 12)
    data = TASK.data(recipe)
    names = [
        example.input.content.tobytes() for example in TASK.examples(data.meta, data.train, split="train")
    ]
    assert len(set(names)) == len(names) == 4


def test_a_run_without_validation_keeps_its_last_epoch(dense_recipe, tmp_path):
    run = RunFolder(tmp_path / "run")
    engine.train("linearize", dataclasses.replace(dense_recipe("linearize"), val=0.0), run)
    assert run.weights.exists()
