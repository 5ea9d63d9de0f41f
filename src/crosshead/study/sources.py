"""The samples of a study: what it learns from, what it chooses learning rates on, what it is measured on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Subset

from crosshead import data
from crosshead.data.splits import ImageSplits
from crosshead.data.stratified import stratified_split
from crosshead.runs.folder import RunError
from crosshead.study.trial import Data, Split
from crosshead.tasks.augment import Transform, eval_transform, train_transform

# Of each class, held out from training where a learning rate is chosen.
VALIDATION_SHARE = 1 / 12


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What a trial reads.

    Attributes:
        train: samples to learn from.
        held_out: samples to measure on: of the training set or the test set.
        train_transform: from a sample to a tensor, random.
        transform: the same for measuring, not random.
        num_classes: classes `K`.
        in_chans: bands of an image; for sequences, symbols of the vocabulary.
    """

    train: Dataset
    held_out: Dataset
    train_transform: Transform
    transform: Transform
    num_classes: int
    in_chans: int


def load_samples(name: Data, *, split: Split, image_size: int, data_dir: Path | None) -> Samples:
    """The samples of a trial.

    Where `split` is "validation", a twelfth of each class of the training set is held out, the same in every
    trial, and the test set is left alone.

    Raises:
        RunError: a folder is needed and none is given.
        DataError: the folder does not hold what it should.
    """
    splits = _load(name, image_size, data_dir)
    train: Any = splits.train
    held_out: Any = splits.test
    if split == "validation":
        kept, chosen = stratified_split(np.asarray(train.labels), test_fraction=VALIDATION_SHARE)
        train, held_out = Subset(train, kept.tolist()), Subset(train, chosen.tolist())
    look = {"image_size": image_size, "mean": splits.mean, "std": splits.std}
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
        num_classes=len(splits.classes),
        in_chans=splits.in_chans,
    )


def _load(name: Data, image_size: int, data_dir: Path | None) -> ImageSplits:
    if name == "digits":
        return data.load_digits()
    if data_dir is None:
        raise RunError(f"{name} needs the folder of its images: name it with --data-dir")
    if name == "fashion-mnist":
        return data.load_fashion_mnist(data_dir)
    return data.load_cifar10(data_dir)
