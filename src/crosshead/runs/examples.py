"""Pictures in TensorBoard: what the net makes of a few images while it learns."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Self

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import nn

from crosshead.runs.folder import RunFolder
from crosshead.runs.load import load_run
from crosshead.runs.tensorboard import GroupedTensorBoard
from crosshead.tasks.recipe import Recipe
from crosshead.tasks.seeding import seeded_on_host
from crosshead.tasks.task import Data, Example, Task

# What a picture is reduced to, so that an event file stays small whatever the images are.
MOST_PIXELS = 1_200_000


class WatchNet(Callback):
    """Looks at the net that a run would leave if it ended after this epoch; the engine tells it of the run.

    That net is the one of `model/`, read back, whether its weights are averaged, sharded, compiled or of
    lower precision in the training, which is left alone. So this comes after `KeepModel`, and after
    `StopEarly`, which says which epoch is the last.

    It is looked at with a few images of the validation set, the same each time. Without a validation set they
    are training images, as they are on disk. Those flatter the net, and still tell channels, sizes or labels
    that are mixed up.
    """

    logger: GroupedTensorBoard
    run: RunFolder
    task: Task[Any, Any]
    recipe: Recipe
    data: Data[Any]

    def of_run(
        self,
        logger: GroupedTensorBoard,
        run: RunFolder,
        *,
        task: Task[Any, Any],
        recipe: Recipe,
        data: Data[Any],
    ) -> Self:
        """Tells it where to write, and of what.

        Args:
            logger: where to.
            run: the run.
            task: of the recipe.
            recipe: of the run.
            data: whose images are shown.
        """
        self.logger, self.run, self.task, self.recipe, self.data = logger, run, task, recipe, data
        return self

    @property
    def split(self) -> str:
        """Where the images are from."""
        return "train" if self.data.val is None else "val"

    @abstractmethod
    def is_time(self, epoch: int) -> bool:
        """Whether to look after an epoch, counted from 1. After the last one it always does."""

    @abstractmethod
    def show(self, net: nn.Module, module: pl.LightningModule, step: int) -> None:
        """Writes what is seen.

        Args:
            net: read back, in evaluation mode.
            module: that learns.
            step: of the training.
        """

    def examples(self) -> Iterator[Example]:
        """The images."""
        images = getattr(self.data, self.split)
        return self.task.examples(self.data.meta, images, split=self.split)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks, where it is time."""
        epoch = trainer.current_epoch + 1
        is_last = trainer.should_stop or epoch == trainer.max_epochs
        if trainer.is_global_zero and (is_last or self.is_time(epoch)):
            # Making a net draws its first weights.
            with seeded_on_host(self.recipe.seed):
                self.show(load_run(self.run)[1].to(pl_module.device), pl_module, trainer.global_step)


class ShowExamples(WatchNet):
    """Shows what the net makes of the images, drawn as by `crosshead predict`.

    They are shown after the first, second, fourth, eighth, ... validation and after the last epoch: a net
    changes most in the beginning, and TensorBoard shows ten pictures of a kind.
    """

    has_shown_truth = False

    def is_time(self, epoch: int) -> bool:
        """After validations that are powers of two; without a validation set after such epochs."""
        return is_due(epoch, 1 if self.data.val is None else self.recipe.val_every)

    def show(self, net: nn.Module, module: pl.LightningModule, step: int) -> None:
        """Writes a picture of each image, and once one of its labels."""
        for example in self.examples():
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
