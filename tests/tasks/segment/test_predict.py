from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crosshead.runs.load import load_run
from crosshead.tasks.segment.data import SegmentMeta
from crosshead.tasks.segment.predict import label_map, predict_labels
from crosshead.tasks.segment.task import TASK
from crosshead.tasks.sources import Input, read_input

META = SegmentMeta(
    classes=("dark", "red", "blue"), in_chans=3, mean=(0.4,) * 3, std=(0.3,) * 3, ignore_index=255
)


class ByColor(torch.nn.Module):
    """Sees what a pixel is by its colour, which the normalisation must not have spoilt; keeps the sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images):
        self.seen.append(tuple(images.shape))
        red, _, blue = (images * 0.3 + 0.4).unbind(1)
        return 50 * torch.stack([torch.full_like(red, 0.5), red, blue], 1)


def seen(path: Path, *, in_chans: int = 3) -> Input:
    return read_input(path, in_chans=in_chans, position=0)


@pytest.fixture
def flag(tmp_path) -> Path:
    """17 x 53 pixels: dark, with red at the upper left and blue at the lower right."""
    pixels = np.full((53, 17, 3), 20, np.uint8)
    pixels[:10, :5] = (250, 20, 20)
    pixels[40:, 12:] = (20, 20, 250)
    Image.fromarray(pixels).save(tmp_path / "flag.png")
    return tmp_path / "flag.png"


@pytest.fixture(scope="module")
def trained(dense_run):
    record, model = load_run(dense_run("segment"))
    return record, model


@pytest.mark.parametrize("tile", [0, 16, 64])
def test_each_pixel_gets_its_class_whole_or_in_windows(flag, tile):
    net = ByColor().eval()
    prediction = predict_labels(META, net, seen(flag), tile=tile)
    expected = np.zeros((53, 17), np.uint8)
    expected[:10, :5], expected[40:, 12:] = 1, 2
    labels = prediction.maps()[".labels.png"]
    assert labels.mode == "P"
    assert np.array_equal(np.asarray(labels), expected)
    assert len(labels.convert("RGB").getcolors() or []) == 3  # seen when it is opened
    assert prediction.name == "flag"
    assert prediction.to_dict() == {
        "image": str(flag),
        "size": [17, 53],
        "classes": ["dark", "red", "blue"],
        "fractions": {"dark": 786 / 901, "red": 50 / 901, "blue": 65 / 901},
    }
    assert prediction.summary == "dark 87.2%, blue 7.2%, red 5.5%"
    assert max(max(shape[2:]) for shape in net.seen) == (16 if tile == 16 else 53)
    assert prediction.rows()[1] == {"image": str(flag), "class": "red", "fraction": 50 / 901}
    picture = prediction.plot()
    assert picture.width >= 17
    assert picture.height >= 53


def test_a_class_that_is_not_seen_is_not_in_the_summary(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    prediction = predict_labels(META, ByColor(), seen(tmp_path / "red.png"), tile=0)
    assert prediction.summary == "red 100.0%"
    assert prediction.fractions == {"dark": 0, "red": 1, "blue": 0}


def test_labels_of_more_than_256_classes_keep_their_numbers(tmp_path):
    class Last(torch.nn.Conv2d):
        def forward(self, images):
            return torch.eye(300)[299][None, :, None, None] + 0 * super().forward(images)

    meta = SegmentMeta(
        classes=tuple(map(str, range(300))), in_chans=1, mean=(0.5,), std=(0.5,), ignore_index=65535
    )
    labels = label_map(meta, Last(1, 1, 1), Image.new("L", (5, 4)), window=8)
    assert labels.dtype == np.uint16
    assert labels.shape == (4, 5)
    assert set(labels.flat) == {299}


@pytest.mark.parametrize(
    ("size", "mode"), [((17, 53), "RGB"), ((40, 32), "L"), ((100, 33), "RGBA"), ((1, 1), "L")]
)
def test_images_of_any_size_and_kind_are_taken(trained, tmp_path, size, mode):
    record, model = trained
    Image.new(mode, size).save(tmp_path / "image.png")
    (prediction,) = TASK.predict(record.recipe, record.meta, model, [seen(tmp_path / "image.png")])
    labels = np.asarray(prediction.maps()[".labels.png"])
    assert labels.shape == size[::-1]
    assert labels.max() < 3
    assert sum(prediction.fractions.values()) == pytest.approx(1)


def test_a_net_of_grey_images_takes_coloured_ones(dense_recipe, flag):
    recipe = dense_recipe("segment", in_chans=1)
    meta = TASK.data(recipe).meta
    assert meta.in_chans == 1
    (found,) = TASK.predict(recipe, meta, TASK.build(recipe, meta).eval(), [seen(flag, in_chans=1)])
    assert found.labels.shape == (53, 17)


@pytest.mark.parametrize(("options", "largest"), [({}, 32), ({"tile": 24}, 24), ({"tile": 0}, 90)])
def test_windows_are_by_default_as_large_as_the_crops_of_the_training(trained, tmp_path, options, largest):
    record, model = trained
    Image.new("RGB", (90, 40)).save(tmp_path / "wide.png")
    sides = []
    watch = model.register_forward_pre_hook(lambda _, inputs: sides.append(max(inputs[0].shape[2:])))
    TASK.predict(record.recipe, record.meta, model, [seen(tmp_path / "wide.png")], **options)
    watch.remove()
    assert max(sides) == largest


def test_a_negative_tile_is_refused(trained, flag):
    record, model = trained
    with pytest.raises(ValueError, match=r"^tile is -1: give 1 pixel or more, or 0 to see images whole$"):
        TASK.predict(record.recipe, record.meta, model, [seen(flag)], tile=-1)
