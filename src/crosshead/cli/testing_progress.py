"""What an evaluation says while it runs."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from crosshead.cli.progress import Bar


class ShowTesting(Callback):
    """A bar over the batches of an evaluation.

    Args:
        bar: where to show it.
    """

    def __init__(self, bar: Bar) -> None:
        self.bar, self.done = bar, 0

    def on_test_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Moves the bar."""
        self.done += 1
        counts: Any = trainer.num_test_batches
        self.bar.show("measuring", done=self.done, total=int(sum(counts)))

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What follows cannot be counted."""
        self.bar.show("summing up")
