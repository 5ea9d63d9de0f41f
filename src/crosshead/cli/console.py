"""What the commands share when they speak to a terminal."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def say(*lines: str) -> None:
    """Prints lines, from one process of many."""
    from lightning.pytorch.utilities.rank_zero import rank_zero_only

    if rank_zero_only.rank == 0:
        for line in lines:
            print(line, flush=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's advice and advertisements from people who did not choose Lightning."""
    from lightning.fabric.utilities.warnings import PossibleUserWarning

    # The warning about exchanged attention is for those who do not go on to train or load weights.
    levels = {"lightning.pytorch": "WARNING", "lightning.fabric": "WARNING", "crosshead.vision.swap": "ERROR"}
    before = {name: logging.getLogger(name).level for name in levels}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PossibleUserWarning)
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides.*")
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        try:
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)
