from collections.abc import Iterable, Sequence
from itertools import pairwise, product

import numpy as np
import torch
from torch.utils.data import Dataset

from crosshead.tasks.change.pairs.crops import Crop, check_labels_fit, cut
from crosshead.tasks.change.pairs.images import ImagePair


class PairTiles(Dataset[Crop]):
    """Overlapping square tiles that cover image pairs, to measure and to predict on.

    Where tiles overlap, the border between them runs in the middle of the overlap: each pixel belongs to the
    one tile that sees more around it. A tile carries only labels of its own pixels, so each label counts
    once.

    Args:
        pairs: Standardised pairs.
        labels: For each pair the labels to measure on, (height, width), as `fold_labels` gives them.
        size: Side of a tile in pixels.
        overlap: How many pixels neighbouring tiles share at least, 0..size - 1.

    Raises:
        ValueError: When `size` or `overlap` is outside its range, or labels do not fit the pairs.

    Example:
        >>> image = np.zeros((6, 40, 30), np.float32)
        >>> pair = ImagePair(name="field", before=image, after=image, label=np.ones((40, 30), np.uint8))
        >>> tiles = PairTiles([pair], [pair.label], size=32, overlap=8)
        >>> len(tiles), sum(int(label.sum()) for _, _, label in tiles)
        (2, 1200)
    """

    def __init__(
        self, pairs: Sequence[ImagePair], labels: Sequence[np.ndarray], *, size: int, overlap: int = 0
    ) -> None:
        if size < 1 or overlap not in range(size):
            raise ValueError(f"size is {size} and overlap {overlap}; give 1 pixel or more, and 0..size - 1")
        check_labels_fit(pairs, labels)
        self.pairs, self.labels, self.size = pairs, labels, size
        self.places = [
            (number, rows, columns)
            for number, pair in enumerate(pairs)
            for rows, columns in product(*(_spans(length, size, overlap) for length in pair.size))
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Crop:
        """Cut one tile.

        Args:
            index: Tiles go pair by pair and row by row.

        Returns:
            Before and after, float32, (bands, size, size), and the labels of its own pixels, int64,
            (size, size): 0 elsewhere.
        """
        number, (top, rows), (left, columns) = self.places[index]
        before, after, label = cut(
            self.pairs[number], self.labels[number], top=top, left=left, size=self.size
        )
        own = torch.zeros_like(label)
        inside = _within(rows, top), _within(columns, left)
        own[inside] = label[inside]
        return before, after, own

    def assemble(self, predictions: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Put predictions of all tiles together, of each pixel that of its own tile.

        Args:
            predictions: For each tile in order (channels, size, size).

        Returns:
            For each pair (channels, height, width).

        Raises:
            ValueError: When there are more or fewer predictions than tiles, or they have another size.
        """
        maps: list[np.ndarray] = []
        for (number, (top, rows), (left, columns)), prediction in zip(self.places, predictions, strict=True):
            if prediction.shape[-2:] != (self.size, self.size):
                raise ValueError(
                    f"a prediction is {prediction.shape}; give (channels, {self.size}, {self.size})"
                )
            if number == len(maps):
                maps.append(np.zeros((len(prediction), *self.pairs[number].size), prediction.dtype))
            maps[number][:, rows, columns] = prediction[:, _within(rows, top), _within(columns, left)]
        return maps


def _spans(length: int, size: int, overlap: int) -> list[tuple[int, slice]]:
    """Along one axis: where each tile begins, and which pixels are its own."""
    last = max(0, length - size)
    starts = [*range(0, last, size - overlap), last]
    borders = [0, *((start + size + following) // 2 for start, following in pairwise(starts)), length]
    return [(start, slice(*own)) for start, own in zip(starts, pairwise(borders), strict=True)]


def _within(own: slice, start: int) -> slice:
    return slice(own.start - start, own.stop - start)
