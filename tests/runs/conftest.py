"""One small training that the tests of this folder look at."""

import logging
from pathlib import Path

import pytest
import torch

from crosshead.runs import engine
from crosshead.runs.folder import RunFolder
from crosshead.tasks.classify.recipe import ClassifyRecipe

TINY = ClassifyRecipe(
    data="digits",
    model="ivit_nano",
    model_args={
        "stem_stride": 1,
        "depths": (1, 1, 1, 1),
        "dims": (8, 16, 16, 16),
        "head_dim": 8,
        "kernel_size": 3,
        "attention_stages": (1, 2),
        "landmarks": (2, 2, 2, 1),
    },
    epochs=2,
    batch_size=256,
    lr=5e-3,
    crop="padded",
    crop_padding=1,
    flip=0.0,
    accelerator="cpu",
)


@pytest.fixture(autouse=True)
def one_thread():
    """Equal numbers of threads give equal bits, and the machine may be shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny() -> ClassifyRecipe:
    return TINY


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> RunFolder:
    """A finished run, not to be changed."""
    torch.set_num_threads(1)
    run = RunFolder(Path(tmp_path_factory.mktemp("runs")) / "tiny")
    engine.train("digits", TINY, run)
    return run


@pytest.fixture
def copied(trained, tmp_path) -> RunFolder:
    """A copy of the finished run, to be damaged."""
    import shutil

    shutil.copytree(trained.path, tmp_path / "copy")
    return RunFolder(tmp_path / "copy")
