"""Held-out blocks of labelled images: neighbouring pixels are alike, so single pixels cannot be held out."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.ndimage import maximum_filter

from crosshead.tasks.splits import SPLITS
from crosshead.tasks.task import DataError

TRAIN, VAL, TEST = range(len(SPLITS))

_REMEDIES = {
    "train": "choose a smaller --block, --guard or --val, or label more",
    "val": "choose a smaller --block or --guard or a larger --val, label more, or give --val 0",
    "test": "choose another --fold or a smaller --block, or label more",
}


def deal_blocks(
    height: int,
    width: int,
    *,
    parts: int = 4,
    block: int = 50,
    first: int = 0,
    free: np.ndarray | None = None,
) -> np.ndarray:
    """Cuts an image into square blocks and deals them out into parts.

    Blocks are dealt out like the squares of a chessboard: where all are free, no block has a neighbour of its
    own part across an edge, and with four parts each is spread over the whole image. The same arguments give
    the same blocks always.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        parts: how many, 2 or more.
        block: side of a block in pixels; at the right and lower border blocks are cut off.
        first: the part of the first block; counted up from image to image, it lets small images take turns.
        free: boolean, (height, width), whole blocks: only these are dealt out, others are passed over.

    Returns:
        Integers, (height, width): the part of each pixel, -1 where it is not free.

    Raises:
        ValueError: if `parts` is below 2 or `block` below 1.

    Example:
        >>> deal_blocks(2, 8, parts=4, block=1)
        array([[0, 1, 2, 3, 0, 1, 2, 3],
               [2, 3, 0, 1, 2, 3, 0, 1]])
    """
    if parts < 2 or block < 1:
        raise ValueError(f"parts must be 2 or more and block 1 pixel or more; got {parts} and {block}")
    blocks = (np.ones((height, width), bool) if free is None else free)[::block, ::block]
    # From four parts on a knight's move leads to the next block of a part; with fewer the step must be 1, or
    # neighbours would meet.
    step = 2 if parts > 3 else 1
    turn = first + blocks.cumsum(axis=1) - 1 + step * np.arange(len(blocks))[:, None]
    dealt = np.where(blocks, turn % parts, -1)
    return dealt.repeat(block, axis=0)[:height].repeat(block, axis=1)[:, :width]


def deal_splits(
    sizes: Sequence[tuple[int, int]], *, folds: int = 4, fold: int = 0, block: int = 50, val: float = 0.1
) -> list[np.ndarray]:
    """Deals the blocks of some images out into the three splits.

    All blocks are dealt out into `folds`, one of which is the test set. The blocks that are left are dealt
    out again in the same way, into as many parts as make each the fraction `val`; part 0 is validated on, and
    the others are the training area.

    Args:
        sizes: height and width of each image.
        folds: parts into which all blocks are dealt out.
        fold: the one that is the test set.
        block: side of a block in pixels.
        val: fraction of the other blocks to validate on, at most 0.5; 0 for none.

    Returns:
        For each image uint8, (height, width): `TRAIN`, `VAL` or `TEST`.

    Raises:
        ValueError: if `deal_blocks` refuses `folds` or `block`, or `val` is outside its range.

    Example:
        >>> deal_splits([(1, 8)], folds=4, block=1, val=0.5)[0].tolist()
        [[2, 1, 0, 1, 2, 0, 1, 0]]
    """
    if not 0 <= val <= 0.5:
        raise ValueError(f"val must be 0 to 0.5; got {val}")
    splits = []
    for number, size in enumerate(sizes):
        free = deal_blocks(*size, parts=folds, block=block, first=number) != fold
        dealt = np.where(free, TRAIN, TEST).astype(np.uint8)
        if val:
            # There are never more blocks than that.
            parts = round(min(1 / val, 1e9))
            dealt[deal_blocks(*size, parts=parts, block=block, first=number, free=free) == 0] = VAL
        splits.append(dealt)
    return splits


def split_labels(label: np.ndarray, splits: np.ndarray, *, guard: int = 0) -> dict[str, np.ndarray]:
    """Parts the labels of one image into those to learn from, to validate on and to test on.

    Only labels are held out. The pixels around a training label stay visible, and a net sees them as far as
    its receptive field reaches, held-out ones too: that is unlabelled context, as any method has it that is
    given whole images. What has to be kept apart is labels: neighbours are alike, so a training label beside
    a held-out one gives it away. `guard` leaves such training labels out, and likewise labels to validate on
    beside the test set.

    Args:
        label: (height, width), 0 unlabelled.
        splits: the same shape: `TRAIN`, `VAL` or `TEST`, as `deal_splits` gives them.
        guard: training labels at most so many pixels from a block of another split, by rows and by columns,
            are dropped, and labels to validate on as near to a block of the test set. Test labels all stay.

    Returns:
        The labels of each split by its name, like `label` and 0 elsewhere.

    Raises:
        ValueError: if `guard` is negative or the shapes differ.

    Example:
        >>> splits = np.array([[TEST, TEST, VAL, VAL, TRAIN, TRAIN]])
        >>> labels = split_labels(np.array([[1, 2, 1, 2, 1, 2]]), splits, guard=1)
        >>> {name: label[0].tolist() for name, label in labels.items()}
        {'train': [0, 0, 0, 0, 0, 2], 'val': [0, 0, 0, 2, 0, 0], 'test': [1, 2, 0, 0, 0, 0]}
    """
    if guard < 0 or label.shape != splits.shape:
        raise ValueError(
            f"guard must be 0 or more, and label and splits of one shape; got {guard}, {label.shape} and "
            f"{splits.shape}"
        )
    reach = 2 * min(guard, max(label.shape)) + 1
    labels = {}
    for split, name in enumerate(SPLITS):
        near = np.asarray(maximum_filter(splits > split, size=reach, mode="constant"), bool)
        labels[name] = np.where((splits == split) & ~near, label, 0).astype(label.dtype)
    return labels


def require_classes(
    labels: Mapping[str, Sequence[np.ndarray]], *, classes: Sequence[str], name: str = "label"
) -> None:
    """Refuses splits in which a class cannot be learned or cannot be measured.

    Args:
        labels: the labels of each image by the name of the split, as `split_labels` gives them.
        classes: the names of the label values 1, 2 and so on.
        name: what the message calls the labels.

    Raises:
        DataError: if a split lacks a class.

    Example:
        >>> require_classes({"val": [np.array([[1, 0]])]}, classes=("unchanged", "changed"))
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: label: no val label of changed (2); choose ...
    """
    for split, parts in labels.items():
        for number, what in enumerate(classes, 1):
            if not any((label == number).any() for label in parts):
                raise DataError(f"{name}: no {split} label of {what} ({number}); {_REMEDIES[split]}")
