"""Heads while they learn, in TensorBoard: whom they talk to, and how diverse they are."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from crosshead.explain.diversity import head_diversity
from crosshead.explain.interaction import through_other_heads
from crosshead.explain.layers import attention_layers
from crosshead.explain.mixing import mixing_matrices
from crosshead.explain.pictures import draw_mixing
from crosshead.explain.record import record
from crosshead.explain.recording import Recording
from crosshead.runs.examples import WatchNet, reduced
from crosshead.tasks.task import Example


class ShowHeads(WatchNet):
    """Writes into TensorBoard how the heads of each attention layer talk: `--explain-every` of a training.

    Of each layer a picture of its mixing matrices, and as curves the diversity of its heads, what it would be
    had they not talked, and the share of what they give that is owed to other heads; means over a few images
    of the validation set, the same each time.

    Args:
        every: epochs from one time to the next; the last epoch is always shown.
    """

    def __init__(self, every: int) -> None:
        self.every = every

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks for layers before an hour has been trained.

        Raises:
            ValueError: if the net has none.
        """
        net: Any = pl_module.model
        if not self.recipe.compile:
            attention_layers(net)

    def is_time(self, epoch: int) -> bool:
        """Every so many epochs."""
        return epoch % self.every == 0

    def show(self, net: nn.Module, module: pl.LightningModule, step: int) -> None:
        """Writes pictures and curves of each layer."""
        seen = [self._recorded(net, module, example) for example in self.examples()]
        for name in seen[0].names if seen else []:
            calls = [recording[name] for recording in seen]
            if any(matrix is not None for matrix in mixing_matrices(calls[0])):
                self.logger.log_picture(f"heads/{name}", reduced(draw_mixing(calls[0])), step)
            figures = {
                "share_through_others": torch.stack([through_other_heads(call).share for call in calls])
            }
            if calls[0].heads > 1:
                diversity = [head_diversity(call) for call in calls]
                figures["diversity"] = torch.tensor([each.after for each in diversity])
                figures["diversity_without_talking"] = torch.tensor([each.before for each in diversity])
            self.logger.log_metrics(
                {f"heads_{kind}/{name}": float(values.mean()) for kind, values in figures.items()}, step
            )

    def _recorded(self, net: nn.Module, module: pl.LightningModule, example: Example) -> Recording:
        with record(net) as recording:
            self.task.preview(self.recipe, self.data.meta, module, net, [example.input])
        return recording
