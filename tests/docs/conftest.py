"""What a reader of the pages has at hand: data sets in the documented layouts, pictures, a finished run."""

import contextlib
import gzip
import logging
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crosshead.tasks.classify.cifar10 import CLASSES

# A net and a training that take seconds, for any classifier.
TINY = "--model ivit_nano --model-args depths=[1,1,1,1] dims=[8,16,16,16] head_dim=8 --epochs 1 --threads 1"


@pytest.fixture
def crosshead(command_line, capfd, monkeypatch) -> Callable[[list[str]], None]:
    """Runs `crosshead ARGUMENTS` in this process; what it prints is shown where it fails."""
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)

    def run(arguments: list[str]) -> None:
        code = command_line(*arguments)
        captured = capfd.readouterr()
        assert code == 0, f"crosshead {' '.join(arguments)}: exit code {code}\n{captured.out}{captured.err}"

    return run


@pytest.fixture(scope="session")
def data(coco_data, label_data, vit, tmp_path_factory) -> dict[str, Path]:
    """Where the data of each recipe are."""
    root = tmp_path_factory.mktemp("documented")
    made = {
        "fashion-mnist": write_fashion_mnist(root / "fashion-mnist"),
        "cifar10": write_classes(root / "cifar10", CLASSES),
        "classify": write_classes(root / "classify", ("cat", "dog")),
        "imagenet1k": write_classes(root / "imagenet1k", tuple(f"n{n:08}" for n in range(1000))),
        "landsat": write_landsat(root / "landsat"),
        "change": write_pairs(root / "change"),
    }
    coco: dict[str, Path] = dict.fromkeys(
        ("detect", "instances", "bccd", "nuclei", "nuclei-semantic", "coco", "linearize"), coco_data
    )
    made["teacher"] = vit
    return {**made, **coco, "fashion-scenes": made["fashion-mnist"], "segment": label_data}


@pytest.fixture(scope="session")
def digits_run(command_line, tmp_path_factory) -> Path:
    """A finished and evaluated run on digits, not to be changed."""
    threads, folder = torch.get_num_threads(), tmp_path_factory.mktemp("digits")
    with contextlib.chdir(folder):
        flags = [*TINY.split(), "--batch-size", "256", "--accelerator", "cpu"]
        assert command_line("train", "digits", *flags) == 0
        assert command_line("evaluate", "runs/digits-1", "--accelerator", "cpu") == 0
    torch.set_num_threads(threads)
    return folder / "runs" / "digits-1"


def write_fashion_mnist(root: Path) -> Path:
    """The four gzipped idx files: 240 images to train on and 20 to test on."""
    root.mkdir()
    for name, count in (("train", 240), ("t10k", 20)):
        images = np.random.default_rng(count).integers(0, 256, (count, 28, 28)).astype(np.uint8)
        arrays = {"images-idx3": images, "labels-idx1": np.arange(count, dtype=np.uint8) % 10}
        for kind, array in arrays.items():
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (root / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    return root


def write_classes(root: Path, classes: tuple[str, ...]) -> Path:
    """A folder for each class in train/ and in val/, each with two images, no two of which are equal."""
    places = [root / split / name for split in ("train", "val") for name in classes]
    for number, place in enumerate(places):
        place.mkdir(parents=True)
        for last in (0, 1):
            Image.new("RGB", (32, 32), (number // 256, number % 256, last)).save(place / f"{last}.png")
    return root


def write_landsat(root: Path) -> Path:
    """Two dates of noise, 100 x 100 pixels: four blocks, in each of which both classes are labelled."""
    write_scene(root, "t1_b321.png", "t1_b457.png", "t2_b321.png", "t2_b457.png", label="label.png")
    return root


def write_pairs(root: Path) -> Path:
    """The same in three folders, bands apart in two files."""
    names = ("before/field_red.png", "before/field_nir.png", "after/field_red.png", "after/field_nir.png")
    write_scene(root, *names, label="label/field.png")
    return root


def write_scene(root: Path, *images: str, label: str) -> None:
    for name in (*images, label):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    for name in images:
        Image.effect_noise((100, 100), 90).convert("RGB").save(root / name)
    Image.fromarray((np.arange(100 * 100) % 3).astype(np.uint8).reshape(100, 100)).save(root / label)
