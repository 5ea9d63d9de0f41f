"""Pictures in TensorBoard: what the net makes of a few images while it learns."""

import math
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from PIL import Image

from crosshead.runs.folder import RunFolder
from crosshead.runs.load import load_run
from crosshead.runs.tensorboard import GroupedTensorBoard
from crosshead.tasks.recipe import Recipe
from crosshead.tasks.seeding import seeded_on_host
from crosshead.tasks.task import Data, Task

# What a picture is reduced to, so that an event file stays small whatever the images are.
MOST_PIXELS = 1_200_000


class ShowExamples(Callback):
    """Shows what the net makes of a few images of the validation set, drawn as by `crosshead predict`.

    They are shown after the first, second, fourth, eighth, ... validation and after the last epoch, the same
    images each time: a net changes most in the beginning, and TensorBoard shows ten pictures of a kind.
    Without a validation set they are training images, as they are on disk. Those flatter the net, and still
    tell channels, sizes or labels that are mixed up.

    The net is that of `model/`, read back: the one that the run would leave if it ended now, whether its
    weights are averaged, sharded, compiled or of lower precision in the training, which is left alone. So
    this comes after `KeepModel`, and after `StopEarly`, which says which epoch is the last.

    Args:
        logger: where to.
        run: the run.
        task: of the recipe.
        recipe: of the run.
        data: whose images are shown.
    """

    def __init__(
        self,
        logger: GroupedTensorBoard,
        run: RunFolder,
        *,
        task: Task[Any, Any],
        recipe: Recipe,
        data: Data[Any],
    ) -> None:
        self.logger, self.run, self.task, self.recipe, self.data = logger, run, task, recipe, data
        self.split, self.every = ("train", 1) if data.val is None else ("val", recipe.val_every)
        self.has_shown_truth = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Shows the images, where it is time."""
        epoch = trainer.current_epoch + 1
        is_last = trainer.should_stop or epoch == trainer.max_epochs
        if trainer.is_global_zero and (is_last or is_due(epoch, self.every)):
            # Making a net draws its first weights.
            with seeded_on_host(self.recipe.seed):
                self.show(pl_module, trainer.global_step)

    def show(self, module: pl.LightningModule, step: int) -> None:
        """Writes a picture of each image, and once one of its labels."""
        net, images = load_run(self.run)[1].to(module.device), getattr(self.data, self.split)
        for example in self.task.examples(self.data.meta, images, split=self.split):
            tag = f"examples/{example.name.replace(' ', '_')}"
            (result,) = self.task.preview(self.recipe, self.data.meta, module, net, [example.input])
            self.logger.log_picture(tag, reduced(result.plot()), step)
            if example.truth is not None and not self.has_shown_truth:
                self.logger.log_picture(f"{tag}_truth", reduced(example.truth), step)
        self.has_shown_truth = True


def is_due(epoch: int, every: int) -> bool:
    """Whether pictures are due after an epoch, counted from 1, with so many from one validation to the next.

    Example:
        >>> [epoch for epoch in range(1, 25) if is_due(epoch, 3)]
        [3, 6, 12, 24]
    """
    validations, rest = divmod(epoch, every)
    return rest == 0 and validations.bit_count() == 1


def reduced(picture: Image.Image) -> Image.Image:
    """A copy of at most `MOST_PIXELS`.

    Example:
        >>> reduced(Image.new("RGB", (4000, 3000))).size, reduced(Image.new("RGB", (40, 30))).size
        ((1264, 948), (40, 30))
    """
    copy, scale = picture.copy(), math.sqrt(MOST_PIXELS / (picture.width * picture.height))
    if scale < 1:
        copy.thumbnail((scale * picture.width, scale * picture.height))
    return copy
