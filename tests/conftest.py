"""Tiny data sets of bright rectangles, for trainings of every task."""

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from crosshead.tasks import task
from crosshead.tasks.task import DataError

WIDTH, HEIGHT = 40, 32
# Rectangles as (class, left, top, width, height), those of the first image first; class 0 is red, 1 blue.
RECTANGLES = {
    "train": [
        [(0, 4, 4, 12, 10), (1, 22, 14, 14, 12)],
        [(1, 6, 8, 10, 16)],
        [],
        [(0, 20, 4, 16, 12), (0, 2, 18, 14, 12), (1, 22, 18, 12, 10)],
        [(1, 12, 10, 16, 10)],
        [(0, 8, 6, 10, 20), (1, 24, 4, 12, 10)],
        [(0, 14, 12, 18, 14)],
        [(1, 4, 16, 12, 12), (0, 20, 6, 12, 12)],
    ],
    "val": [
        [(0, 6, 6, 12, 12), (1, 24, 12, 12, 14)],
        [(1, 10, 8, 18, 12)],
        [],
        [(0, 16, 10, 14, 14)],
    ],
    "test": [
        [(1, 4, 6, 14, 12), (0, 24, 10, 10, 14)],
        [(0, 8, 8, 18, 10)],
        [],
        [(1, 12, 12, 14, 14)],
    ],
}
# Of the noise behind them, by split.
SEEDS = (0, 100, 200)
COLORS = ((230, 60, 60), (60, 60, 230))
# Where the last image of a split has a crowd: left, top, width, height.
CROWD = (30, 0, 10, 4)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Small sizes, and one test process a core: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="session")
def one_example() -> Iterator[None]:
    """Tiny nets learn faster than what they see is drawn: one image stands for all."""
    before, task.EXAMPLES = task.EXAMPLES, 1
    yield
    task.EXAMPLES = before


@pytest.fixture
def refused() -> Callable:
    """Runs a call that must fail with one line that names the path and says each of the given words."""

    def check(call: Callable[[], object], path: object, *words: str) -> str:
        with pytest.raises(DataError) as caught:
            call()
        message = str(caught.value)
        assert "\n" not in message
        for word in (str(path), *words):
            assert word in message
        return message

    return check


@pytest.fixture
def real_data() -> Path:
    folder = os.environ.get("CROSSHEAD_TEST_DATA")
    if not folder:
        pytest.skip("CROSSHEAD_TEST_DATA does not name a folder with the real data sets")
    return Path(folder)


def picture(rectangles: list[tuple[int, ...]], *, seed: int) -> Image.Image:
    """Bright rectangles on dark noise, 40 x 32 pixels, RGB."""
    pixels = np.random.default_rng(seed).integers(0, 60, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    for kind, left, top, width, height in rectangles:
        pixels[top : top + height, left : left + width] = COLORS[kind]
    return Image.fromarray(pixels)


def coco_objects(rectangles: list[list[tuple[int, ...]]]) -> list[dict]:
    """COCO's annotations of the rectangles of a split, and of its crowd."""
    objects: list[dict] = []
    for image, found in enumerate(rectangles, start=1):
        for kind, left, top, width, height in found:
            right, bottom = left + width, top + height
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": image,
                    "category_id": (3, 7)[kind],
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                    "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
                }
            )
    left, top, width, height = CROWD
    # Run lengths go down the columns, beginning with the zeros.
    runs = [left * HEIGHT + top, *[height, HEIGHT - height] * width]
    crowd = {"category_id": 7, "bbox": list(CROWD), "area": width * height, "iscrowd": 1}
    crowd["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": runs}
    return [*objects, {"id": len(objects) + 1, "image_id": len(rectangles), **crowd}]


@pytest.fixture(scope="session")
def write_coco_data() -> Callable[[Path], Path]:
    """Makes a folder in COCO format: 8, 4 and 4 images, one a split without objects, one with a crowd."""

    def write(root: Path) -> Path:
        for seed, (split, rectangles) in zip(SEEDS, RECTANGLES.items(), strict=True):
            (root / split).mkdir(parents=True)
            for number, found in enumerate(rectangles, start=1):
                picture(found, seed=seed + number).save(root / split / f"{number}.png")
            document = {
                "images": [
                    {"id": number, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT}
                    for number in range(1, len(rectangles) + 1)
                ],
                "categories": [{"id": 3, "name": "red"}, {"id": 7, "name": "blue"}],
                "annotations": coco_objects(rectangles),
            }
            (root / f"{split}.json").write_text(json.dumps(document))
        return root

    return write


@pytest.fixture(scope="session")
def write_label_data() -> Callable[[Path], Path]:
    """Makes a folder of the same images and of palette images of labels, 255 where there is a crowd."""

    def write(root: Path) -> Path:
        for seed, (split, rectangles) in zip(SEEDS, RECTANGLES.items(), strict=True):
            for kind in ("images", "labels"):
                (root / split / kind).mkdir(parents=True)
            for number, found in enumerate(rectangles, start=1):
                picture(found, seed=seed + number).save(root / split / "images" / f"{number}.png")
                labels = np.zeros((HEIGHT, WIDTH), np.uint8)
                for kind, left, top, width, height in found:
                    labels[top : top + height, left : left + width] = kind + 1
                if number == len(rectangles):
                    left, top, width, height = CROWD
                    labels[top : top + height, left : left + width] = 255
                indexed = Image.fromarray(labels).convert("P")
                # With fewer colours Pillow would save fewer bits, too few for 255.
                indexed.putpalette([0, 0, 0, *COLORS[0], *COLORS[1], *[255] * 759])
                indexed.save(root / split / "labels" / f"{number}.png")
        (root / "classes.txt").write_text("background\nred\nblue\n")
        return root

    return write


@pytest.fixture(scope="session")
def write_pair_data() -> Callable[..., Path]:
    """Makes a folder with a pair of 40 x 40 pixels; every third pixel is labelled, in every block of 10."""

    def write(root: Path, *, bands: int = 3) -> Path:
        for part in ("before", "after", "label"):
            (root / part).mkdir(parents=True)
        generator = np.random.default_rng(0)
        before = generator.normal(50, 10, (bands, 40, 40)).astype(np.float32)
        after = before + generator.normal(0, 3, before.shape).astype(np.float32)
        rows, columns = np.mgrid[:40, :40]
        changed = (rows // 4 + columns // 6) % 3 == 0
        after[:, changed] += 60
        label = np.where((rows + columns) % 3 == 0, 1 + changed, 0).astype(np.uint8)
        np.save(root / "before" / "field.npy", before)
        np.save(root / "after" / "field.npy", after)
        Image.fromarray(label).save(root / "label" / "field.png")
        return root

    return write


@pytest.fixture(scope="session")
def coco_data(write_coco_data, tmp_path_factory) -> Path:
    """Objects in COCO format, not to be changed."""
    return write_coco_data(tmp_path_factory.mktemp("data") / "coco")


@pytest.fixture(scope="session")
def label_data(write_label_data, tmp_path_factory) -> Path:
    """Images with label images, not to be changed."""
    return write_label_data(tmp_path_factory.mktemp("data") / "labels")


@pytest.fixture(scope="session")
def pair_data(write_pair_data, tmp_path_factory) -> Path:
    """An image pair of three bands, not to be changed."""
    return write_pair_data(tmp_path_factory.mktemp("data") / "pairs")


BACKBONE = {
    "stem_stride": 1,
    "depths": (1, 1, 1, 1),
    "dims": (8, 16, 16, 16),
    "head_dim": 8,
    "kernel_size": 3,
    "attention_stages": (1, 2),
    "landmarks": (2, 2, 2, 1),
}
SHARED = {"model": "ivit_nano", "model_args": BACKBONE, "epochs": 1, "batch_size": 4, "lr": 5e-3}
DETECT = {"data": "folder", "pyramid_dim": 32, "rois": 16, "anchor_sizes": (4, 8, 16, 24, 32)}
# By what is trained: the recipe's class and its choices.
DENSE: dict[str, tuple[str, dict[str, Any]]] = {
    "segment": (
        "segment.recipe.SegmentRecipe",
        {"data": "folder", "decoder": "fpn", "decoder_dim": 64, "crop": 32},
    ),
    "boxes": ("detect.recipe.DetectRecipe", {**DETECT, "detector": "faster-rcnn"}),
    "masks": ("detect.recipe.DetectRecipe", {**DETECT, "detector": "mask-rcnn"}),
    "retinanet": ("detect.recipe.DetectRecipe", {**DETECT, "detector": "retinanet"}),
    "change": (
        "change.recipe.ChangeRecipe",
        {"data": "folder", "block": 10, "dim": 16, "detail_dim": 8, "crop": 16, "crops": 8, "tile": 24},
    ),
    "linearize": (
        "linearize.recipe.LinearizeRecipe",
        {
            "data": "images",
            "model_args": {},
            "landmarks": (3, 2),
            "crops": 8,
            "color_jitter": 0.0,
            "attention_epochs": 0,
            "blockwise": False,
            "kept_crops": 8,
        },
    ),
}
# A ViT of three layers for images of 16 x 16 pixels.
VIT = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 3, "num_heads": 3}


@pytest.fixture(scope="session")
def write_vit() -> Callable[..., Path]:
    """Writes the folder of a ViT as timm does: `write_vit(folder, num_classes=5, depth=2)`."""

    def write(folder: Path, *, num_classes: int = 0, in_chans: int = 3, **options: Any) -> Path:
        import timm
        from safetensors.torch import save_file

        arguments = {**VIT, "num_classes": num_classes, "in_chans": in_chans, **options}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = timm.create_model("vit_tiny_patch16_224", **arguments)
        for name, parameter in model.named_parameters():
            # Fresh weights attend almost uniformly, which every attention does well.
            parameter.data *= 15 if name.endswith("qkv.weight") else 1
        side = arguments["img_size"]
        pretrained = {"input_size": [in_chans, side, side], "num_classes": num_classes}
        pretrained |= {"mean": in_chans * [0.4], "std": in_chans * [0.3], "crop_pct": 1.0}
        pretrained |= {"first_conv": "patch_embed.proj", "classifier": "head"}
        document = {"architecture": "vit_tiny_patch16_224", "num_classes": num_classes}
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(
            json.dumps({**document, "model_args": arguments, "pretrained_cfg": pretrained})
        )
        save_file(model.state_dict(), folder / "model.safetensors")
        return folder

    return write


@pytest.fixture(scope="session")
def vit(write_vit, tmp_path_factory) -> Path:
    """A teacher without a classifier, not to be changed."""
    return write_vit(tmp_path_factory.mktemp("vit") / "teacher")


@pytest.fixture(scope="session")
def dense_recipe(coco_data, label_data, pair_data, vit) -> Callable[..., Any]:
    """Gives a recipe of two steps an epoch: `dense_recipe("boxes", epochs=2)`; see `DENSE` for the names."""

    def make(name: str, **changes: object) -> Any:
        place, choices = DENSE[name]
        module, _, kind = place.rpartition(".")
        folder = {"segment": label_data, "change": pair_data}.get(name, coco_data)
        choices = {"data_dir": folder, "accelerator": "cpu", **SHARED, **choices}
        if name == "linearize":
            choices["model"] = str(vit)
        recipe = getattr(import_module(f"crosshead.tasks.{module}"), kind)(**choices)
        return dataclasses.replace(recipe, **changes)

    return make


@pytest.fixture(scope="session")
def dense_run(dense_recipe, tmp_path_factory) -> Callable[[str], Any]:
    """Gives a finished run, not to be changed: `dense_run("boxes")`. Each is trained once."""
    from crosshead.runs import engine
    from crosshead.runs.folder import RunFolder

    runs: dict[str, RunFolder] = {}

    def trained(name: str) -> RunFolder:
        if name not in runs:
            logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
            run = RunFolder(tmp_path_factory.mktemp("dense") / name)
            engine.train(name, dense_recipe(name), run)
            runs[name] = run
        return runs[name]

    return trained


@pytest.fixture(scope="session")
def command_line() -> Callable[..., int]:
    """Runs `crosshead ARGUMENTS` in this process; returns the exit code."""
    from crosshead.cli.main import main

    def call(*arguments: str | Path) -> int:
        before = sys.argv
        sys.argv = ["crosshead", *map(str, arguments)]
        try:
            main()
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 1 if stop.code else 0
        finally:
            sys.argv = before
        return 0

    return call
