"""A task that the package does not know: its folder and an entry in the table of recipes are all it takes."""

import json
import subprocess
import sys

from PIL import Image

RECIPE = '''
from dataclasses import dataclass
from typing import ClassVar

from crosshead.tasks.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class DaylightRecipe(Recipe):
    """Says of each image whether it shows day or night. Each field is a flag of `crosshead train`."""

    task: ClassVar[str] = "daylight"

    data: str = "generated"
    images: int = 40
    """How many images to make."""


def daylight() -> DaylightRecipe:
    """Day or night."""
    return DaylightRecipe(model="one-weight", epochs=3, batch_size=8, lr=0.5, accelerator="cpu", threads=1)
'''
TASK = """
from dataclasses import asdict, dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

from crosshead.tasks.daylight.recipe import DaylightRecipe
from crosshead.tasks.loading import EpochLoaders
from crosshead.tasks.module import TaskModule
from crosshead.tasks.result import Result
from crosshead.tasks.splits import carve
from crosshead.tasks.task import Data, Evaluation, Meta, Task


@dataclass(frozen=True, kw_only=True)
class DaylightEvaluation(Evaluation):
    accuracy: float

    def metrics(self):
        return [("accuracy", f"{self.accuracy:.2%}")]

    def by_class(self):
        return "accuracy", {}


@dataclass(frozen=True, kw_only=True)
class DaylightResult(Result):
    day: bool

    @property
    def summary(self):
        return "day" if self.day else "night"

    def to_dict(self):
        return {"image": self.source, "day": self.day}

    def rows(self):
        return [self.to_dict()]

    def plot(self):
        return Image.new("RGB", (8, 8), "white" if self.day else "black")


class DaylightNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.weight * (x - 0.5) + self.bias


class Observer(TaskModule):
    columns = ("train_loss", "val_accuracy")

    def training_step(self, batch, batch_idx):
        x, label = batch
        loss = nn.functional.binary_cross_entropy_with_logits(self.model(x), label)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(x))
        return {"loss": loss}

    def right(self, batch):
        x, label = batch
        return ((self.model(x) > 0) == label.bool()).float().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val_accuracy", self.right(batch), batch_size=len(batch[0]))

    def on_test_start(self):
        self.seen = []

    def test_step(self, batch, batch_idx):
        self.seen.append(self.right(batch))


class Daylight(Task[DaylightRecipe, Meta]):
    recipe = DaylightRecipe
    meta = Meta

    def data(self, recipe):
        brightness = torch.rand(recipe.images, generator=torch.Generator().manual_seed(0))
        made = TensorDataset(brightness, (brightness > 0.5).float())
        train, test = carve(made, fraction=0.25, seed=0)
        train, val = carve(train, fraction=recipe.val, seed=recipe.seed)
        meta = Meta(classes=("night", "day"), in_chans=1, mean=(0.5,), std=(0.3,))
        return Data(train=train, val=val, test=test, meta=meta)

    def check_data(self, recipe):
        yield from ()

    def build(self, recipe, meta):
        return DaylightNet()

    def module(self, recipe, meta, model, updates):
        return Observer(model, **updates)

    def loaders(self, recipe, data, meta):
        return EpochLoaders(
            train=lambda epoch: data.train, val=data.val, test=data.test,
            batch_size=recipe.batch_size, seed=recipe.seed,
        )

    def config(self, recipe, meta, model):
        return {"crosshead": asdict(meta)}

    def evaluation(self, module, meta, *, images, weights):
        accuracy = float(torch.stack(module.seen).mean())
        return DaylightEvaluation(images=images, weights=weights, accuracy=accuracy)

    def draw(self, title, recipe, data, meta, module):
        return []

    def predict(self, recipe, meta, net, inputs, **options):
        brightness = [float(np.asarray(each.content).mean()) / 255 for each in inputs]
        return [
            DaylightResult(name=each.name, source=each.source, day=bool(net(torch.tensor(bright)) > 0))
            for each, bright in zip(inputs, brightness)
        ]


TASK = Daylight()
"""


SESSION = """
import sys
import crosshead.tasks
from crosshead.recipes import RECIPES

crosshead.tasks.__path__.append("tasks")
from crosshead.tasks.daylight.recipe import daylight

RECIPES["daylight"] = daylight

from crosshead.cli.main import main

for command in (
    ["train", "daylight", "--epochs", "3"],
    ["resume", "runs/daylight-1"],
    ["evaluate", "runs/daylight-1"],
    ["predict", "runs/daylight-1", "noon.png"],
    ["train", "daylight", "--check-data"],
):
    sys.argv = ["crosshead", *command]
    main()
"""


def test_a_fifth_task_takes_its_folder_and_an_entry_in_the_table(tmp_path):
    folder = tmp_path / "tasks" / "daylight"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "recipe.py").write_text(RECIPE)
    (folder / "task.py").write_text(TASK)
    Image.new("L", (4, 4), 250).save(tmp_path / "noon.png")
    session = subprocess.run(
        [sys.executable, "-c", SESSION], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (session.returncode, session.stderr) == (0, "")
    run = tmp_path / "runs" / "daylight-1"
    assert json.loads((run / "evaluation.json").read_text())["images"] == 10
    assert json.loads((run / "recipe.json").read_text())["task"] == "daylight"
    assert "27 training and 3 validation images" in session.stdout
    assert "validation accuracy" in session.stdout
    assert "noon.png: day" in session.stdout
    assert (run / "predictions" / "noon.json").exists()
    assert (run / "curves.png").exists()
