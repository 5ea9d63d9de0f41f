"""Recipes of label images in any folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from crosshead.tasks.segment.recipe import SegmentRecipe


@pytest.fixture
def recipe_of() -> Callable[..., SegmentRecipe]:
    """Gives a recipe of the label images in a folder, by default without a validation set."""

    def make(root: Path | str | None, **choices: object) -> SegmentRecipe:
        shared: dict = {"data": "folder", "model": "ivit_nano", "epochs": 1, "crop": 32, "val": 0.0}
        return SegmentRecipe(data_dir=None if root is None else Path(root), **{**shared, **choices})

    return make
