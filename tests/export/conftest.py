"""Runs with fresh weights, and files made of them; nothing is trained, and each is made once."""

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from crosshead.export import write
from crosshead.export.write import Exported, export_run
from crosshead.runs.folder import RunFolder
from crosshead.runs.model import save_model
from crosshead.runs.record import RunRecord
from crosshead.tasks.classify.recipe import ClassifyRecipe
from crosshead.tasks.recipe import Recipe
from crosshead.tasks.task import task_of

DIGITS = ClassifyRecipe(
    data="digits", model="test_resnet", epochs=1, batch_size=64, flip=0.0, accelerator="cpu", threads=1
)
IVIT = {
    "stem_stride": 1,
    "depths": (1, 1, 1, 1),
    "dims": (8, 8, 16, 16),
    "head_dim": 8,
    "kernel_size": 3,
    "attention_stages": (1,),
    "landmarks": 2,
}
ATTENTION = dataclasses.replace(DIGITS, model="ivit_nano", model_args=IVIT)
VIT = {"patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 3}
FIXED = dataclasses.replace(DIGITS, model="vit_tiny_patch16_224", model_args=VIT)


@pytest.fixture(scope="session")
def write_run() -> Callable[[Path, Recipe], RunFolder]:
    """Writes a run into a folder: `write_run(folder, recipe)`."""

    def make(folder: Path, recipe: Recipe) -> RunFolder:
        """A run whose weights are those that its net begins with, drawn wider, so that images matter."""
        task, run = task_of(recipe.task), RunFolder(folder)
        meta = task.data(recipe).meta
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = task.build(recipe, meta)
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.05)
        RunRecord(name="tiny", recipe=recipe.resolved(), meta=meta, start=None, stamp={}).write(run)
        save_model(
            run, task.config(recipe, meta, net), net.state_dict(), note={"epoch": 1, "averaged": False}
        )
        return run

    return make


@pytest.fixture(scope="session")
def recipes(dense_recipe, write_vit, tmp_path_factory) -> Callable[[str], Recipe]:
    """The recipe of a run by name."""

    def find(name: str) -> Recipe:
        if name in ("digits", "attention", "fixed"):
            return {"digits": DIGITS, "attention": ATTENTION, "fixed": FIXED}[name]
        if name == "linearize":
            vit = write_vit(tmp_path_factory.mktemp("vit") / "teacher", depth=1)
            return dense_recipe("linearize", model=str(vit))
        maps = {"out_indices": (0, 2)} if name == "change" else {}
        return dense_recipe(name, model="test_resnet", model_args=maps)

    return find


@pytest.fixture(scope="session")
def fresh_run(recipes, write_run, tmp_path_factory) -> Callable[[str], RunFolder]:
    """Gives a run, not to be changed: `fresh_run("segment")`."""
    runs: dict[str, RunFolder] = {}

    def give(name: str) -> RunFolder:
        if name not in runs:
            logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
            runs[name] = write_run(tmp_path_factory.mktemp("export") / name, recipes(name))
        return runs[name]

    return give


@pytest.fixture(scope="session")
def onnx_file(fresh_run) -> Callable[[str], Exported]:
    """Gives the float32 file of a run, not to be changed: `onnx_file("segment")`."""
    files: dict[str, Exported] = {}

    def give(name: str) -> Exported:
        if name not in files:
            files[name] = export_run(fresh_run(name))
        return files[name]

    return give


@pytest.fixture
def metadata(onnx_file) -> dict[str, Any]:
    """What the file of a classifier says of itself, to be changed."""
    return json.loads(onnx_file("digits").described.read_text())


@pytest.fixture
def traced_before(onnx_file, monkeypatch) -> None:
    """The float32 file is there: it need not be made again."""
    content = onnx_file("digits").path.read_bytes()
    monkeypatch.setattr(write, "trace", lambda *_: None)
    monkeypatch.setattr(write, "to_onnx", lambda *_: content)
