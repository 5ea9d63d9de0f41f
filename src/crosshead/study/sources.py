"""The samples of a study: what it learns from, what it chooses learning rates on, what it is measured on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Subset

from crosshead.runs.folder import RunError
from crosshead.study.list_ops.sequences import Sequences, SequenceSplits, load_list_ops
from crosshead.study.pathfinder.images import load_pathfinder
from crosshead.study.trial import Data, Split
from crosshead.tasks.classify.cifar10 import load_cifar10
from crosshead.tasks.classify.data import ClassifyMeta, load_digits, load_fashion_mnist
from crosshead.tasks.classify.transforms import Transform, eval_transform, train_transform
from crosshead.tasks.splits import stratified_split
from crosshead.tasks.task import Data as Splits

# Of each class, held out from training where a learning rate is chosen.
VALIDATION_SHARE = 1 / 12
# Generated samples to train on, and to measure on.
PATHFINDER_IMAGES = 40_000, 4_000
LIST_OPS = 96_000, 2_000


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


def load_samples(name: Data, *, split: Split, size: int, data_dir: Path | None) -> Samples:
    """The samples of a trial.

    Where `split` is "validation", a twelfth of each class of the training set is held out, the same in every
    trial, and the test set is left alone.

    Raises:
        RunError: a folder is needed and none is given.
        DataError: the folder does not hold what it should.
    """
    if name == "list-ops":
        return _list_ops(split, size, data_dir)
    splits = _load(name, size, data_dir)
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


def generate(
    name: Data, *, size: int, data_dir: Path | None, progress: Callable[[int, int], None] | None = None
) -> None:
    """Makes the samples of a generated data set once, so that trials find them in `data_dir`.

    Args:
        name: the data set; nothing is done for one that is not generated.
        size: side of the images, or length of the sequences.
        data_dir: where to keep them.
        progress: told the samples made and those to make, split by split.
    """
    if data_dir is not None and name == "pathfinder":
        _pathfinder(size, data_dir, progress)
    elif data_dir is not None and name == "list-ops":
        _expressions(size, data_dir, progress)


def _load(name: Data, size: int, data_dir: Path | None) -> Splits[ClassifyMeta]:
    if name == "digits":
        return load_digits()
    if data_dir is None:
        raise RunError(f"{name} needs the folder of its images: name it with --data-dir")
    if name == "pathfinder":
        return _pathfinder(size, data_dir)
    if name == "fashion-mnist":
        return load_fashion_mnist(data_dir)
    return load_cifar10(data_dir)


def _pathfinder(
    size: int, data_dir: Path, progress: Callable[[int, int], None] | None = None
) -> Splits[ClassifyMeta]:
    train, test = PATHFINDER_IMAGES
    return load_pathfinder(size=size, train=train, test=test, cache_dir=data_dir, progress=progress)


def _expressions(
    size: int, data_dir: Path | None, progress: Callable[[int, int], None] | None = None
) -> SequenceSplits:
    # Expressions of a quarter of the length and more, as 500 of 2,000 tokens in the Long Range Arena.
    return load_list_ops(
        train=LIST_OPS[0],
        validation=LIST_OPS[1],
        test=LIST_OPS[1],
        min_length=size // 4,
        max_length=size,
        cache_dir=data_dir,
        progress=progress,
    )


def _list_ops(split: Split, size: int, data_dir: Path | None) -> Samples:
    splits = _expressions(size, data_dir)
    return Samples(
        train=TokenRows(splits.train, size),
        held_out=TokenRows(splits.validation if split == "validation" else splits.test, size),
        train_transform=torch.from_numpy,
        transform=torch.from_numpy,
        num_classes=splits.num_classes,
        in_chans=len(splits.vocabulary),
    )


class TokenRows(Dataset[tuple[np.ndarray, int]]):
    """Sequences as rows of one length, 0 behind the end of each.

    Args:
        sequences: the sequences.
        length: of the rows.

    Example:
        >>> tokens = np.array([[5, 6], [7, 0]])
        >>> two = Sequences(tokens=tokens, lengths=np.array([2, 1]), labels=np.array([1, 4]))
        >>> TokenRows(two, 3)[1]
        (array([7, 0, 0]), 4)
    """

    def __init__(self, sequences: Sequences, length: int) -> None:
        self.sequences = sequences
        self.length = length

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        row = np.zeros(self.length, np.int64)
        tokens = self.sequences.tokens[index][: self.length]
        row[: len(tokens)] = tokens
        return row, int(self.sequences.labels[index])
