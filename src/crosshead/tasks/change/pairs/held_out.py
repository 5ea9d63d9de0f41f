"""Held-out blocks of a labelled image: neighbouring pixels are alike, so single pixels cannot be held out."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import max_pool2d

from crosshead.tasks.task import DataError


def block_folds(
    label: np.ndarray, *, folds: int = 4, block: int = 50, num_classes: int = 2, name: str = "label"
) -> np.ndarray:
    """Cut an image into square blocks and hold out another share of them in each fold.

    Blocks are dealt out like squares of a chessboard, so that with two folds or more no block has a neighbour
    in its own fold across an edge, and with four each fold is spread over the whole image. The same size,
    `folds` and `block` give the same blocks always.

    Args:
        label: (height, width), 0 unlabelled, 1..num_classes.
        folds: How many, 2 or more.
        block: Side of a block in pixels; at the right and lower border blocks are cut off.
        num_classes: Each of them has to be in each fold, and outside each.
        name: What the message calls the label map.

    Returns:
        Boolean, (folds, height, width): what each fold holds out. Every pixel is held out in exactly one
        fold.

    Raises:
        ValueError: When `folds` is below 2 or `block` below 1.
        DataError: When a fold holds out no labelled pixel of a class, or all of them.

    Example:
        >>> label = np.arange(64).reshape(8, 8) % 2 + 1
        >>> folds = block_folds(label, folds=4, block=2)
        >>> folds.shape, folds.sum(axis=(1, 2)).tolist()
        ((4, 8, 8), [16, 16, 16, 16])
    """
    if label.ndim != 2:
        raise ValueError(f"label has the shape {label.shape}; give one map, (height, width)")
    maps = [held_out_blocks(*label.shape, folds=folds, block=block)]
    return _checked(maps, [label], num_classes, name)[0]


def pair_folds(
    labels: Sequence[np.ndarray],
    *,
    folds: int = 4,
    block: int = 50,
    num_classes: int = 2,
    name: str = "label",
) -> list[np.ndarray]:
    """The same for several images, of which single ones may lack a class.

    Args:
        labels: Each (height, width).
        folds: As in `block_folds`.
        block: As in `block_folds`.
        num_classes: Each of them has to be in each fold, and outside each, of all images together.
        name: What the message calls the label maps.

    Returns:
        For each image a boolean map (folds, height, width).

    Raises:
        ValueError: As in `block_folds`.
        DataError: As in `block_folds`.

    Example:
        >>> labels = [np.full((4, 4), 1), np.full((4, 8), 2)]
        >>> [maps.shape for maps in pair_folds(labels, folds=2, block=2)]
        [(2, 4, 4), (2, 4, 8)]
    """
    maps = [held_out_blocks(*label.shape, folds=folds, block=block) for label in labels]
    return _checked(maps, labels, num_classes, name)


def held_out_blocks(height: int, width: int, *, folds: int = 4, block: int = 50) -> np.ndarray:
    """The geometry of `block_folds`, whatever is labelled.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        folds: As in `block_folds`.
        block: As in `block_folds`.

    Returns:
        Boolean, (folds, height, width).

    Raises:
        ValueError: As in `block_folds`.

    Example:
        >>> held_out_blocks(2, 8, folds=4, block=1)[0].astype(int)
        array([[1, 0, 0, 0, 1, 0, 0, 0],
               [0, 0, 1, 0, 0, 0, 1, 0]])
    """
    if folds < 2 or block < 1:
        raise ValueError(
            f"folds is {folds} and block {block}; give 2 folds or more, of blocks of 1 pixel or more"
        )
    rows, columns = np.arange(height)[:, None] // block, np.arange(width)[None] // block
    # From four folds on a knight's move leads to the next block of a fold; with fewer the step must be 1, or
    # neighbours would meet.
    fold = (columns + (2 if folds > 3 else 1) * rows) % folds
    return fold == np.arange(folds)[:, None, None]


def fold_labels(label: np.ndarray, held_out: np.ndarray, *, guard: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Part the labels of one image into those to learn from and those to measure on.

    Only labels are held out. The pixels around a training label stay visible, and a net sees them as far as
    its receptive field reaches, held-out ones too: that is unlabelled context, as any method has it that is
    given whole images. What has to be kept apart is labels: neighbours are alike, so a training label beside
    a held-out one gives it away. `guard` leaves such training labels out.

    Args:
        label: (height, width), 0 unlabelled.
        held_out: Boolean, (height, width): one of the `block_folds`.
        guard: Training labels at most so many pixels from a held-out pixel, by rows and by columns, are
            dropped. Held-out labels all stay.

    Returns:
        The training and the held-out labels, each like `label` and 0 elsewhere.

    Raises:
        ValueError: When `guard` is negative or the shapes differ.

    Example:
        >>> held_out = np.array([[True, True, False, False, False]])
        >>> train, test = fold_labels(np.array([[1, 2, 1, 2, 1]]), held_out, guard=1)
        >>> train.tolist(), test.tolist()
        ([[0, 0, 0, 2, 1]], [[1, 2, 0, 0, 0]])
    """
    if guard < 0 or label.shape != held_out.shape:
        raise ValueError(
            f"guard is {guard}, label {label.shape} and held_out {held_out.shape}; give guard 0 or more, and "
            "both maps the same (height, width)"
        )
    near = torch.from_numpy(np.ascontiguousarray(held_out, dtype=np.float32))[None]
    for window in ((2 * guard + 1, 1), (1, 2 * guard + 1)):
        near = max_pool2d(near, window, stride=1, padding=(window[0] // 2, window[1] // 2))
    return np.where(near[0].numpy() > 0, 0, label).astype(label.dtype), np.where(held_out, label, 0).astype(
        label.dtype
    )


def check_classes(
    train: Sequence[np.ndarray], test: Sequence[np.ndarray], *, num_classes: int = 2, name: str = "label"
) -> None:
    """Refuse a fold in which a class cannot be learned or cannot be measured.

    Args:
        train: The training labels of each image, as `fold_labels` gives them.
        test: The held-out labels of each image.
        num_classes: Classes are 1..num_classes.
        name: What the message calls the label maps.

    Raises:
        DataError: Naming the part and the class that it lacks.

    Example:
        >>> check_classes([np.array([[1, 2]])], [np.array([[1, 0]])])
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: label: no held-out pixel of class 2; choose another block or guard
    """
    for part, labels in (("training", train), ("held-out", test)):
        for number in range(1, num_classes + 1):
            if not any((label == number).any() for label in labels):
                raise DataError(f"{name}: no {part} pixel of class {number}; choose another block or guard")


def _checked(
    maps: Sequence[np.ndarray], labels: Sequence[np.ndarray], num_classes: int, name: str
) -> list[np.ndarray]:
    for fold in range(len(maps[0])):
        for number in range(1, num_classes + 1):
            held_out = [(label == number) & part[fold] for label, part in zip(labels, maps, strict=True)]
            total = sum(int((label == number).sum()) for label in labels)
            share = sum(int(part.sum()) for part in held_out)
            if share in (0, total):
                raise DataError(
                    f"{name}: fold {fold} holds out {share} of {total} labelled pixels of class {number}; "
                    "choose smaller blocks or other folds, or label more"
                )
    return list(maps)
