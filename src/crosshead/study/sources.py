"""The samples of a study: what it learns from, what it chooses learning rates on, what it is measured on."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Subset

from crosshead.runs.folder import RunError
from crosshead.study.conjunctions import LOOK_UPS, PAYLOADS, VOCABULARY, LookUpItems
from crosshead.study.trial import Data, Split
from crosshead.tasks.classify.cifar10 import load_cifar10
from crosshead.tasks.classify.data import ClassifyMeta, load_digits, load_fashion_mnist
from crosshead.tasks.classify.transforms import Transform, eval_transform, train_transform
from crosshead.tasks.splits import stratified_split
from crosshead.tasks.task import Data as Splits

# Of each class, held out from training where a learning rate is chosen.
VALIDATION_SHARE = 1 / 12
# Look-ups are drawn anew for each process, the same every time.
TRAIN_LOOK_UPS, HELD_OUT_LOOK_UPS = 400_000, 10_000
TRAIN_SEED, HELD_OUT_SEEDS = 0, {"validation": 1, "test": 2}


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What a trial reads.

    Attributes:
        train: samples to learn from.
        held_out: samples to measure on: of the training set or the test set.
        train_transform: from an image to a tensor, random; None where samples are seen as they are.
        transform: the same for measuring, not random.
        num_classes: classes `K`.
        in_chans: channels of an image; for look-ups, words of the vocabulary.
    """

    train: Dataset
    held_out: Dataset
    train_transform: Transform | None
    transform: Transform | None
    num_classes: int
    in_chans: int


def load_samples(name: Data, *, split: Split, size: int, data_dir: Path | None) -> Samples:
    """The samples of a trial.

    Where `split` is "validation", a twelfth of each class of the training set is held out, the same in every
    trial, and the test set is left alone. Look-ups are validated on samples of their own.

    Raises:
        RunError: a folder is needed and none is given.
        DataError: the folder does not hold what it should.
    """
    if name in LOOK_UPS:
        return _look_ups(name, split)
    splits = _load(name, data_dir)
    train: Any = splits.train
    held_out: Any = splits.test
    if split == "validation":
        kept, chosen = stratified_split(np.asarray(train.labels), fraction=VALIDATION_SHARE)
        train, held_out = Subset(train, kept.tolist()), Subset(train, chosen.tolist())
    look = {"image_size": size, "mean": splits.meta.mean, "std": splits.meta.std}
    return Samples(
        train=train,
        held_out=held_out,
        # Only CIFAR-10 is seen often enough for augmentation to help more than it costs.
        train_transform=train_transform(
            **look,
            crop="padded" if name == "cifar10" else "center",
            flip=0.5 if name == "cifar10" else 0.0,
        ),
        transform=eval_transform(**look),
        num_classes=len(splits.meta.classes),
        in_chans=splits.meta.in_chans,
    )


def _load(name: Data, data_dir: Path | None) -> Splits[ClassifyMeta]:
    if name == "digits":
        return load_digits()
    if data_dir is None:
        raise RunError(f"{name} needs the folder of its images: name it with --data-dir")
    if name == "fashion-mnist":
        return load_fashion_mnist(data_dir)
    return load_cifar10(data_dir)


@cache
def _look_ups(name: Data, split: Split) -> Samples:
    train, held_out = (
        LookUpItems(count, LOOK_UPS[name], seed=seed)
        for count, seed in ((TRAIN_LOOK_UPS, TRAIN_SEED), (HELD_OUT_LOOK_UPS, HELD_OUT_SEEDS[split]))
    )
    return Samples(
        train=train,
        held_out=held_out,
        train_transform=None,
        transform=None,
        num_classes=PAYLOADS,
        in_chans=VOCABULARY,
    )
