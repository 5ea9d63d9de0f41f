"""Predictions of change: each pixel its class, pairs of any size, and files that do not fit by name."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crosshead.runs.load import load_run
from crosshead.tasks.change.data import ChangeMeta
from crosshead.tasks.change.dates import read_dates
from crosshead.tasks.change.pictures import shown_channels
from crosshead.tasks.change.predict import predict_change
from crosshead.tasks.sources import Input
from crosshead.tasks.task import DataError, task_of

META = ChangeMeta(
    classes=("unchanged", "changed"),
    in_chans=3,
    bands=("1", "2", "3"),
    mean=(50.0, 60.0, 70.0),
    std=(10.0,) * 3,
    after_mean=(150.0, 160.0, 170.0),
    after_std=(20.0,) * 3,
)


class Difference(torch.nn.Module):
    """Takes pixels for changed that differ in their last channel, once both dates are standardised."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[int] = []

    def forward(self, before, after):
        self.seen.append(max(before.shape[2:]))
        difference = (after - before).abs()[:, -1:]
        return torch.cat([0.5 - difference, difference - 0.5], 1)


def seen(paths) -> Input:
    return read_dates(META, tuple(paths), position=0)


@pytest.fixture
def dates(tmp_path) -> tuple[Path, Path]:
    """Two dates of 30 x 20 pixels, a rectangle of which has changed."""
    ramp = np.linspace(-1, 1, 600).reshape(20, 30)
    before = np.stack([50 + 10 * ramp, 60 + 10 * ramp, 70 + 10 * ramp])
    after = np.stack([150 + 20 * ramp, 160 + 20 * ramp, 170 + 20 * ramp])
    after[:, 5:9, 20:27] += 40
    np.save(tmp_path / "field.npy", before)
    np.save(tmp_path / "later.npy", after)
    return tmp_path / "field.npy", tmp_path / "later.npy"


@pytest.fixture(scope="module")
def trained(dense_run):
    record, model = load_run(dense_run("change"))
    return task_of(record.recipe.task), record, model


@pytest.mark.parametrize("tile", [None, 16, 64])
def test_each_pixel_gets_its_class_whole_or_in_windows(dates, tile):
    net = Difference().eval()
    prediction = predict_change(META, net, seen(dates), tile=tile)
    expected = np.ones((20, 30), np.uint8)
    expected[5:9, 20:27] = 2
    assert np.array_equal(prediction.labels, expected)
    labels = prediction.maps()[".labels.png"]
    assert np.array_equal(np.asarray(labels), expected)
    red, green, blue = np.asarray(labels.convert("RGB"))[6, 22].tolist()
    assert red > 1.5 * max(green, blue)
    assert prediction.name == "field"
    assert prediction.to_dict() == {
        "image": str(dates[0]),
        "before": [str(dates[0])],
        "after": [str(dates[1])],
        "size": [30, 20],
        "classes": ["unchanged", "changed"],
        "fractions": {"unchanged": 572 / 600, "changed": 28 / 600},
    }
    assert prediction.summary == "unchanged 95.3%, changed 4.7%"
    assert max(net.seen) == (16 if tile == 16 else 30)
    assert prediction.rows()[1] == {"image": str(dates[0]), "class": "changed", "fraction": 28 / 600}
    picture = prediction.plot()
    assert picture.width > 2 * picture.height


def test_the_channels_of_a_date_may_lie_in_several_files(dates, tmp_path):
    files = []
    for name, date in zip(("t1", "t2"), dates, strict=True):
        channels = np.load(date)
        np.save(tmp_path / f"{name}_a.npy", channels[:2])
        np.save(tmp_path / f"{name}_b.npy", channels[2])
        files += [tmp_path / f"{name}_a.npy", tmp_path / f"{name}_b.npy"]
    one, several = (
        predict_change(META, Difference().eval(), seen(paths), tile=None) for paths in (dates, files)
    )
    assert np.array_equal(one.probabilities, several.probabilities)
    assert several.to_dict()["before"] == [str(path) for path in files[:2]]
    assert several.to_dict()["after"] == [str(path) for path in files[2:]]


def test_dates_in_memory_are_taken_as_their_files_are(dates):
    arrays = [np.load(date) for date in dates]
    by_file = predict_change(META, Difference().eval(), seen(dates), tile=None)
    for pair in (
        [array.transpose(1, 2, 0) for array in arrays],
        [torch.from_numpy(array) for array in arrays],
    ):
        found = predict_change(META, Difference().eval(), seen(pair), tile=None)
        assert np.array_equal(found.labels, by_file.labels)
        assert found.to_dict()["before"] == ["image-1"]
    with pytest.raises(TypeError, match=r"^a pair must be a tuple"):
        read_dates(META, dates[0], position=0)
    with pytest.raises(TypeError, match=r"^a date must be paths"):
        seen((1, 2))
    with pytest.raises(ValueError, match=r"^3 files for two dates"):
        seen((*dates, dates[0]))
    with pytest.raises(ValueError, match="finite numbers"):
        seen((np.full((20, 30, 3), np.nan), arrays[1]))


@pytest.mark.parametrize("size", [(17, 53), (40, 40), (5, 3)])
def test_a_trained_net_gives_classes_from_one_on_for_pairs_of_any_size(trained, tmp_path, size):
    task, record, model = trained
    paths = []
    for name in ("a", "b"):
        Image.effect_noise(size, 50).convert("RGB").save(tmp_path / f"{name}.png")
        paths.append(tmp_path / f"{name}.png")
    (prediction,) = task.predict(
        record.recipe, record.meta, model, [task.read(record.meta, tuple(paths), position=0)]
    )
    assert prediction.labels.shape == size[::-1]
    assert set(prediction.labels.flat) <= {1, 2}


@pytest.mark.parametrize(("options", "largest"), [({}, 24), ({"tile": 16}, 16), ({"tile": 0}, 60)])
def test_windows_are_by_default_as_large_as_the_tiles_of_the_tests(trained, tmp_path, options, largest):
    task, record, model = trained
    np.save(tmp_path / "wide.npy", np.zeros((3, 20, 60), np.float32))
    sides = []
    watch = model.register_forward_pre_hook(lambda _, inputs: sides.append(max(inputs[0].shape[2:])))
    pair = task.read(record.meta, (tmp_path / "wide.npy",) * 2, position=0)
    task.predict(record.recipe, record.meta, model, [pair], **options)
    watch.remove()
    assert max(sides) == largest


def test_channels_sizes_and_files_that_do_not_fit_are_refused_by_name(dates, tmp_path):
    before, _ = dates
    np.save(tmp_path / "two.npy", np.zeros((2, 20, 30)))
    np.save(tmp_path / "small.npy", np.zeros((3, 20, 29)))
    np.save(tmp_path / "narrow.npy", np.zeros((1, 20, 29)))
    (tmp_path / "bad.png").write_bytes(b"nothing")
    for paths, message in (
        ((before, "two.npy"), "two.npy: 2 channels in the files of its date, and the net takes 3 .1, 2, 3."),
        (
            (before, "small.npy"),
            "small.npy: 29 x 20 pixels, and .*field.npy has 30 x 20; give files of one size",
        ),
        (("two.npy", "narrow.npy") * 2, "narrow.npy: 29 x 20 pixels, and .*two.npy has 30 x 20; give files"),
        ((before, "bad.png"), "bad.png: not readable as an image"),
        ((before, "none.npy"), "none.npy: not readable as an image"),
    ):
        with pytest.raises(DataError, match=rf"^[^\n]*{message}[^\n]*$"):
            seen(tmp_path / path for path in paths)


@pytest.mark.parametrize(("count", "channels"), [(1, (0,)), (2, (0,)), (3, (0, 1, 2)), (13, (0, 1, 2))])
def test_the_first_three_channels_are_shown_or_the_first_alone(count, channels):
    assert shown_channels(count) == channels


def test_nothing_is_decoded_where_headers_do_not_fit(dates, tmp_path, refused):
    np.save(tmp_path / "small.npy", np.full((3, 20, 29), np.nan))
    paths = dates[0], tmp_path / "small.npy"
    refused(lambda: seen(paths), paths[1], "29 x 20 pixels")


def test_pixels_that_are_no_numbers_and_named_pipes_are_refused(dates, tmp_path, refused):
    np.save(tmp_path / "nan.npy", np.full((3, 20, 30), np.nan))
    os.mkfifo(tmp_path / "pipe.npy")
    for name, words in (
        ("nan.npy", "1800 of its 1800 values are not finite"),
        ("pipe.npy", "not a regular file"),
    ):
        paths = dates[0], tmp_path / name
        refused(lambda paths=paths: seen(paths), paths[1], words)
