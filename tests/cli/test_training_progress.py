"""What a training says of itself: how much an epoch takes, how far it is, how long it will take."""

import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image

from crosshead.cli.console import Terminal
from crosshead.cli.training_progress import ShowTraining
from crosshead.runs import engine
from crosshead.runs.folder import RunFolder
from crosshead.runs.record import read_record


def said(recipe, run: RunFolder, **terminal) -> list[str]:
    """What a training of a recipe says, each line once."""
    file = io.StringIO()
    show = ShowTraining(run, recipe, Terminal(file=file, color_system=None, **terminal))
    engine.train("any", recipe, run, callbacks=[show])
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", file.getvalue())
    return list(dict.fromkeys(line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()))


@pytest.fixture
def linearize(dense_recipe, tmp_path):
    """Gives a linearization of 24 images, of which an epoch takes fewer."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 4), ("test", 4)):
        (tmp_path / "photos" / split).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 255, (20, 24, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / split / f"{number}.png")
    recipe = dense_recipe("linearize", data="images", data_dir=tmp_path / "photos")
    return dataclasses.replace(
        recipe, batch_size=4, crops=16, kept_crops=8, attention_epochs=2, epochs=1, blockwise=True
    )


def test_what_is_counted_is_what_an_epoch_takes(linearize, tmp_path):
    run = RunFolder(tmp_path / "run")
    lines = said(linearize, run)
    assert "16 training crops and 4 validation images" in lines[0]
    # Also where a training goes on among the blocks, which learn from crops that are kept.
    file = io.StringIO()
    record = read_record(run)
    longer = dataclasses.replace(record, recipe=dataclasses.replace(record.recipe, epochs=2))
    engine.resume(run, longer, callbacks=[ShowTraining(run, longer.recipe, Terminal(file=file))])
    assert "16 training crops and 4 validation images" in file.getvalue()


def test_the_time_left_is_that_of_a_stage_until_the_last_stage_has_begun(linearize, tmp_path):
    epochs = [line for line in said(linearize, RunFolder(tmp_path / "run")) if line.startswith("epoch ")]
    assert len(epochs) == 2 + 3 + 1
    assert epochs[0].endswith("left of attention")
    assert "left" not in epochs[1]
    assert epochs[2].endswith("left of blocks")
    assert epochs[3].endswith("left of blocks")
    assert "left" not in epochs[4] + epochs[5]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_on_a_terminal_no_line_is_too_long_and_validations_are_seen(dense_recipe, tmp_path, width):
    recipe = dense_recipe("masks", epochs=2)
    lines = said(recipe, RunFolder(tmp_path / "run"), width=width, force_terminal=True)
    paths = [line for line in lines if str(tmp_path) in line]
    assert max(len(line) for line in lines if line not in paths) <= width
    assert any(line.startswith("epoch 1/2 validating") for line in lines)
    assert any(line.startswith("epoch 2/2 validating") and not line.endswith("0:00:00") for line in lines)


def test_scores_are_per_cent_with_two_digits_everywhere(dense_recipe, tmp_path):
    lines = said(dense_recipe("masks", epochs=1), RunFolder(tmp_path / "run"), width=200, force_terminal=True)
    shown = [figure for line in lines for figure in re.findall(r"[\d.]+%", line)]
    assert shown
    assert all(re.fullmatch(r"\d+\.\d\d%", figure) for figure in shown)
