from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from crosshead.tasks.change.pairs.images import ImagePair
from crosshead.tasks.task import DataError

Crop = tuple[Tensor, Tensor, Tensor]


class PairCrops(Dataset[Crop]):
    """Random square crops of image pairs to train on.

    Labels are sparse, so crops are not drawn evenly: a class is drawn, each one that has a label alike, then
    one of its labelled pixels, each alike, then a crop that holds this pixel. No crop is without a label, and
    rare change is seen as often as its opposite.

    A crop is a function of (seed, epoch, index), whoever reads it. What reaches over the border of a smaller
    image is 0, unlabelled.

    Args:
        pairs: Standardised pairs.
        labels: For each pair the labels to learn from, (height, width), as `fold_labels` gives them; held-out
            labels are 0 here, and the labels of the pairs themselves are not looked at.
        size: Side of a crop in pixels.
        count: Crops in an epoch.
        seed: Of the run.
        epoch: Which epoch is going to read.
        symmetries: Whether each crop is turned and mirrored at random, all eight ways alike.

    Raises:
        ValueError: When `size` or `count` is below 1, or labels do not fit the pairs.
        DataError: When no pixel is labelled.

    Example:
        >>> image = np.zeros((6, 40, 30), np.float32)
        >>> pair = ImagePair(name="field", before=image, after=image, label=np.ones((40, 30), np.uint8))
        >>> before, after, label = PairCrops([pair], [pair.label], size=16, count=100)[7]
        >>> before.shape, label.dtype
        (torch.Size([6, 16, 16]), torch.int64)
    """

    def __init__(
        self,
        pairs: Sequence[ImagePair],
        labels: Sequence[np.ndarray],
        *,
        size: int,
        count: int,
        seed: int = 0,
        epoch: int = 0,
        symmetries: bool = False,
    ) -> None:
        if size < 1 or count < 1:
            raise ValueError(
                f"size is {size} and count {count}; give crops of 1 pixel or more, 1 crop or more"
            )
        check_labels_fit(pairs, labels)
        self.pairs, self.labels = pairs, labels
        self.size, self.count, self.symmetries = size, count, symmetries
        self.seed, self.epoch = seed, epoch
        found = [np.argwhere(label > 0) for label in labels]
        # Rows of (pair, row, column) for every labelled pixel, by class.
        places = np.concatenate([np.insert(where, 0, number, axis=1) for number, where in enumerate(found)])
        values = np.concatenate([label[label > 0] for label in labels])
        self.places = [places[values == value].astype(np.int32) for value in np.unique(values)]
        if not self.places:
            raise DataError(f"{pairs[0].name}: no labelled pixel to learn from; label some outside the fold")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Crop:
        """Cut one crop.

        Args:
            index: 0..count - 1.

        Returns:
            Before and after, float32, (bands, size, size), and the labels, int64, (size, size): 0 unlabelled.
        """
        index = range(self.count)[index]
        # RandomState is the generator whose streams NumPy has frozen.
        seed = np.random.SeedSequence((self.seed, self.epoch, index)).generate_state(4)
        random = np.random.RandomState(seed)
        places = self.places[random.randint(len(self.places))]
        number, *place = places[random.randint(len(places))].tolist()
        top, left = (
            _start(at, length, self.size, random)
            for at, length in zip(place, self.pairs[number].size, strict=True)
        )
        crop = cut(self.pairs[number], self.labels[number], top=top, left=left, size=self.size)
        if not self.symmetries:
            return crop
        turns, mirrored = random.randint(4), bool(random.randint(2))
        before, after, label = (torch.rot90(part.mT if mirrored else part, turns, (-2, -1)) for part in crop)
        return before.contiguous(), after.contiguous(), label.contiguous()


def cut(pair: ImagePair, label: np.ndarray, *, top: int, left: int, size: int) -> Crop:
    """Cut a square out of a pair and its labels, 0 where it reaches beyond the lower or right border.

    Args:
        pair: The images.
        label: (height, width).
        top: First row.
        left: First column.
        size: Side in pixels.

    Returns:
        Before and after, float32, (bands, size, size), and the labels, int64, (size, size).

    Example:
        >>> image = np.arange(6.0).reshape(1, 2, 3)
        >>> pair = ImagePair(name="field", before=image, after=-image, label=np.ones((2, 3), np.uint8))
        >>> before, _, label = cut(pair, pair.label, top=0, left=1, size=3)
        >>> before[0].tolist(), label[2].tolist()
        ([[1.0, 2.0, 0.0], [4.0, 5.0, 0.0], [0.0, 0.0, 0.0]], [0, 0, 0])
    """
    rows, columns = slice(top, top + size), slice(left, left + size)
    height, width = label[rows, columns].shape
    crop = []
    for source, dtype in ((pair.before, np.float32), (pair.after, np.float32), (label, np.int64)):
        padded = np.zeros((*source.shape[:-2], size, size), dtype)
        padded[..., :height, :width] = source[..., rows, columns]
        crop.append(torch.from_numpy(padded))
    before, after, labels = crop
    return before, after, labels


def check_labels_fit(pairs: Sequence[ImagePair], labels: Sequence[np.ndarray]) -> None:
    """Refuse labels that are not one map for each pair, of its size.

    Args:
        pairs: The images.
        labels: What should belong to them.

    Raises:
        ValueError: With the sizes of both.
    """
    sizes, shapes = [pair.size for pair in pairs], [label.shape for label in labels]
    if not sizes or sizes != shapes:
        raise ValueError(f"labels are {shapes} and pairs {sizes}; give one map for each pair, of its size")


def _start(place: int, length: int, size: int, random: np.random.RandomState) -> int:
    """Where a crop begins that holds `place` and leaves the image only where this is smaller."""
    first, last = max(0, place - size + 1), min(place, max(0, length - size))
    return random.randint(first, last + 1)
