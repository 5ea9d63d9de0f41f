"""Runs one trial: the project's Trainer and classifier, on exactly as many samples as the trial says.

Legend: `B` batch, `N` tokens, `H` heads, `E` value head dim.
"""

import logging
import math
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from crosshead.attention.module import InteractiveAttention
from crosshead.measure.similarity import head_alignment, mean_similarity
from crosshead.rivals.layer import Projected
from crosshead.runs.callbacks import NonFiniteLoss, WatchLoss
from crosshead.runs.model import count_parameters
from crosshead.study.backbone import build_model
from crosshead.study.sources import Samples, load_samples
from crosshead.study.trial import Trial
from crosshead.tasks.classify.module import Classifier
from crosshead.tasks.classify.transforms import Transform
from crosshead.tasks.loading import AugmentedImages, EpochLoaders, epoch_order
from crosshead.tasks.seeding import seed_everything

logger = logging.getLogger(__name__)

# A training is cut into so many stretches, of which the first two warm up.
STRETCHES = 20
WARM_UP = 2
CLIP_GRAD = 1.0
# Held-out samples on which heads are compared.
DIVERSITY_SAMPLES = 16


def run_trial(
    trial: Trial,
    *,
    data_dir: Path | None = None,
    device: str = "cpu",
    workers: int = 0,
    tell: Callable[[int], object] = lambda samples: None,
) -> dict[str, Any]:
    """Trains and measures once.

    Args:
        trial: what to train.
        data_dir: the folder of its data set.
        device: "cpu" or "cuda".
        workers: loader processes.
        tell: told the number of samples after each stretch of the training.

    Returns:
        Accuracy and loss on the held-out samples, parameters, `head_diversity` where heads can be told apart,
        and the seconds that training took. A training whose loss is not finite has no accuracy: both are NaN.

    Raises:
        RunError: if a folder is missing.
        DataError: if the data are not as they should be.
        ValueError: if the model cannot be built.
    """
    tell_of_stretch = _Tell(trial, tell)
    model, module, loaders, trainer = _prepare(
        trial, tell_of_stretch, data_dir=data_dir, device=device, workers=workers
    )
    started = time.perf_counter()
    try:
        trainer.fit(module, datamodule=loaders)
        seconds = time.perf_counter() - started
        (measured,) = trainer.validate(module, datamodule=loaders, verbose=False)
        if not math.isfinite(measured["val_loss"]):
            raise NonFiniteLoss("the loss of the held-out samples is not finite")
    except NonFiniteLoss as error:
        logger.warning("%s, seed %d: %s", trial.attention, trial.seed, error)
        seconds = time.perf_counter() - started
        measured = {"val_accuracy": float("nan"), "val_loss": float("nan")}
    batch = next(iter(loaders.val_dataloader()))[0][:DIVERSITY_SAMPLES].to(module.device)
    diversity = head_diversity(model, batch)
    return {
        "accuracy": round(measured["val_accuracy"], 6),
        "loss": round(measured["val_loss"], 6),
        "parameters": count_parameters(model),
        "head_diversity": "" if diversity is None else round(diversity, 4),
        "train_seconds": round(seconds, 1),
    }


def seconds_per_sample(
    trial: Trial, *, data_dir: Path | None = None, device: str = "cpu", workers: int = 0, steps: int
) -> float:
    """How long the trainer takes for a sample, loading and the optimizer included.

    Args:
        trial: what to train.
        data_dir: the folder of its data set.
        device: "cpu" or "cuda".
        workers: loader processes.
        steps: how many are timed, after two that warm up.

    Raises:
        RunError: if a folder is missing.
        DataError: if the data are not as they should be.
        ValueError: if the model cannot be built.
    """
    clock = _Clock(steps + 2)
    with torch.random.fork_rng(), suppress(_EnoughError):
        _, module, loaders, trainer = _prepare(
            trial, clock, data_dir=data_dir, device=device, workers=workers
        )
        trainer.fit(module, datamodule=loaders)
    return statistics.median(clock.seconds()[2:]) / trial.batch_size


def _prepare(
    trial: Trial,
    callback: Callback,
    *,
    data_dir: Path | None,
    device: str,
    workers: int,
) -> tuple[nn.Module, Classifier, "StretchLoaders", pl.Trainer]:
    samples = load_samples(trial.data, split=trial.split, size=trial.shape.image_size, data_dir=data_dir)
    seed_everything(trial.seed)
    model = build_model(
        trial.data,
        trial.attention,
        trial.shape,
        num_classes=samples.num_classes,
        in_chans=samples.in_chans,
    )
    module = Classifier(
        model,
        num_classes=samples.num_classes,
        learning_rate=trial.learning_rate,
        weight_decay=trial.weight_decay,
        warmup_epochs=WARM_UP,
    )
    trainer = pl.Trainer(
        accelerator="gpu" if device == "cuda" else device,
        devices=1,
        precision=trial.precision,  # pyright: ignore[reportArgumentType]
        max_epochs=STRETCHES,
        # Held-out samples are looked at once, at the end.
        check_val_every_n_epoch=STRETCHES + 1,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        gradient_clip_val=CLIP_GRAD,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[WatchLoss(remedy="give this mechanism lower learning rates"), callback],
    )
    return model, module, StretchLoaders(samples, trial, workers=workers), trainer


class StretchLoaders(EpochLoaders):
    """Loaders that cut one long stream of samples, pass after pass in new order, into equal stretches.

    Args:
        samples: what to read.
        trial: how many, and the seed.
        workers: loader processes.
    """

    def __init__(self, samples: Samples, trial: Trial, *, workers: int = 0) -> None:
        super().__init__(
            train=lambda stretch: _seen(samples.train, samples.train_transform, trial.seed, stretch),
            val=_seen(samples.held_out, samples.transform),
            test=None,
            batch_size=trial.batch_size,
            workers=workers,
            seed=trial.seed,
        )
        self.steps = stretch_steps(trial)

    def train_dataloader(self) -> DataLoader:
        """The stretch that the trainer is about to run."""
        stretch = self._attached_trainer().current_epoch
        length = self.steps * self.batch_size
        images: Any = self.training_items()(stretch)
        first, chosen = stretch * length, []
        while len(chosen) < length:
            done, start = divmod(first + len(chosen), len(images))
            order = epoch_order(len(images), seed=self.seed, epoch=done)
            chosen += order[start : start + length - len(chosen)]
        return self._loader(Subset(images, chosen), self.batch_size, drop_last=False)


def stretch_steps(trial: Trial) -> int:
    """Steps of one stretch."""
    return max(1, trial.samples // (trial.batch_size * STRETCHES))


def _seen(samples: Dataset, transform: Transform | None, seed: int = 0, epoch: int = 0) -> Dataset:
    return samples if transform is None else AugmentedImages(samples, transform, seed=seed, epoch=epoch)


class _Tell(Callback):
    def __init__(self, trial: Trial, tell: Callable[[int], object]) -> None:
        self.stretch = stretch_steps(trial) * trial.batch_size
        self.tell = tell

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.tell(self.stretch)


class _EnoughError(Exception):
    """Enough steps were timed."""


class _Clock(Callback):
    """When each step ended; ends the training after so many."""

    def __init__(self, steps: int) -> None:
        self.ends, self.steps = [time.perf_counter()], steps

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.ends.append(time.perf_counter())
        if len(self.ends) > self.steps:
            raise _EnoughError

    def seconds(self) -> list[float]:
        return [end - start for start, end in pairwise(self.ends)]


def head_diversity(model: nn.Module, samples: Tensor) -> float | None:
    """One minus the mean similarity of two heads of a layer, averaged over layers.

    What a head gives is what the last projection reads of it; similarity is linear centred kernel alignment
    over all tokens of the samples: 0 for heads whose outputs are uncorrelated, 1 for heads that agree up to
    a rotation and a scale.

    Args:
        model: with attention layers that project once for all heads.
        samples: a batch of its inputs.

    Returns:
        Between 0 and 1; None where no layer has two heads whose outputs can be told apart.

    Source of the similarity: S. Kornblith et al., arXiv 1905.00414, section 3.

    Example:
        >>> layer = InteractiveAttention(32, 4, landmarks=(2,))
        >>> 0 < head_diversity(layer, torch.randn(2, 9, 32)) < 1
        True
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, InteractiveAttention | Projected) and module.num_heads > 1
    ]
    found: list[Tensor] = []

    def keep(layer: InteractiveAttention | Projected):
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            heads = inputs[0].detach().double().flatten(0, 1).unflatten(-1, (layer.num_heads, -1))
            found.append(mean_similarity(head_alignment([heads.transpose(0, 1)])))

        return layer.proj.register_forward_pre_hook(hook)

    hooks = [keep(layer) for layer in layers]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(samples)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    return 1 - float(torch.stack(found).mean()) if found else None
