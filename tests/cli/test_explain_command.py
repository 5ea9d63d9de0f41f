"""`crosshead explain`: pages and sheets, and one line for each mistake."""

import shutil

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


@pytest.fixture
def digit(tmp_path):
    path = tmp_path / "digit.png"
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_page_and_sheets(crosshead, trained, digit, tmp_path):
    (tmp_path / "other").mkdir()
    shutil.copy(digit, tmp_path / "other" / "digit.png")
    images = digit, tmp_path / "other" / "digit.png"
    answer = crosshead("explain", trained, *images, "--to", "inside", "--layers", "-1", "--token", "0", "1")
    assert (answer.code, answer.err) == (0, "")
    assert "inside/digit.html" in answer.out
    assert "open it in a browser" in answer.out
    # A second image of the same name does not take the place of the first.
    assert sorted(path.name for path in (tmp_path / "inside").iterdir()) == [
        *("digit", "digit-2", "digit-2.html", "digit.html")
    ]
    assert "digit: 4 sheets" in answer.out
    assert len([*(tmp_path / "inside" / "digit").iterdir()]) == 4


def test_pages_go_into_the_run_by_default(crosshead, trained, digit, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    answer = crosshead("explain", run, digit, "--no-sheets")
    assert answer.code == 0, answer.err
    assert [path.name for path in (run / "explained").iterdir()] == ["digit.html"]
    assert "sheets" not in answer.out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--layers", "stages.9"], "layer 'stages.9' is none of the"),
        (["--layers", "7"], "layer must be -"),
        (["--head", "64"], "head must lie in 0 to"),
        (["--token", "0", "99"], "token (0, 99) is outside the grid"),
        (["--size", "64"], "--size has no meaning for classify"),
        (["--to", "digit.png/below"], "Not a directory"),
    ],
)
def test_what_does_not_exist_is_one_line(crosshead, trained, digit, flags, words):
    answer = crosshead("explain", trained, digit, *flags)
    assert answer.code == 1
    assert words in answer.err
    assert len(answer.err.splitlines()) == 1


def test_nets_and_files_of_the_wrong_kind_are_one_line(crosshead, trained, digit, tmp_path):
    flags = ["--model", "test_resnet", "--epochs", "1", "--threads", "1", "--accelerator", "cpu"]
    assert crosshead("train", "digits", *flags, "--batch-size", "256", "--out", "plain").code == 0
    (tmp_path / "note.txt").write_text("no image")
    refusals = {
        ("plain", digit): "model must hold InteractiveAttention; ResNet holds none: take an iViT",
        (trained, tmp_path / "note.txt"): "note.txt",
        (trained, tmp_path / "gone.png"): "gone.png",
        ("nowhere", digit): "nowhere is not a folder",
        (trained, tmp_path): "source must be a single image; got several",
    }
    for (run, image), words in refusals.items():
        answer = crosshead("explain", run, image)
        assert answer.code == 1
        assert words in answer.err, answer.err
        assert len(answer.err.splitlines()) == 1


def test_heads_are_shown_while_they_learn(crosshead, tiny_flags, tmp_path):
    answer = crosshead("train", "digits", *tiny_flags, "--explain-every", "1", "--out", "run")
    assert answer.code == 0, answer.err
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["images"] if tag.startswith("heads/")]
    assert tags
    assert all(len(events.Images(tag)) == 2 for tag in tags)
    refused = crosshead("train", "digits", "--explain-every", "0")
    assert "explain_every is 0: give 1 or more" in refused.err
