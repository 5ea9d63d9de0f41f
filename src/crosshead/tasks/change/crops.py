"""Random crops of image pairs, drawn around labelled pixels."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from crosshead.tasks.change.pairs import ImagePair
from crosshead.tasks.task import DataError

Sample = tuple[Tensor, Tensor, Tensor]


class PairCrops(Dataset[Sample]):
    """Random square crops of image pairs to train on.

    Labels are sparse, so crops are not drawn evenly: a class is drawn, each one that has a label alike, then
    one of its labelled pixels, each alike, then a crop that holds this pixel. No crop is without a label, and
    rare change is seen as often as its opposite.

    A crop is a function of (seed, epoch, index), whoever reads it. What reaches over the border of a smaller
    image is 0, unlabelled.

    Args:
        pairs: standardised pairs, whose labels are those to learn from.
        size: side of a crop in pixels.
        count: crops in an epoch.
        seed: of the run.
        epoch: which epoch is going to read.
        symmetries: whether each crop is turned and mirrored at random, all eight ways alike.

    Raises:
        ValueError: if `size` or `count` is below 1.
        DataError: if no pixel is labelled.

    Example:
        >>> image = np.zeros((1, 40, 30), np.float32)
        >>> label = np.ones((40, 30), np.uint8)
        >>> pair = ImagePair(name="field", before=image, after=image, label=label, bands=("red",))
        >>> before, after, label = PairCrops([pair], size=16, count=100)[7]
        >>> before.shape, label.dtype
        (torch.Size([1, 16, 16]), torch.int64)
    """

    def __init__(
        self,
        pairs: Sequence[ImagePair],
        *,
        size: int,
        count: int,
        seed: int = 0,
        epoch: int = 0,
        symmetries: bool = False,
    ) -> None:
        if size < 1 or count < 1:
            raise ValueError(f"size must be 1 pixel or more and count 1 crop or more; got {size} and {count}")
        self.pairs, self.size, self.count, self.symmetries = pairs, size, count, symmetries
        self.seed, self.epoch = seed, epoch
        found = [np.argwhere(pair.label > 0) for pair in pairs]
        if not any(map(len, found)):
            raise DataError("no pixel of the image pairs is labelled for training; label some")
        # Rows of (pair, row, column) for every labelled pixel, by class.
        places = np.concatenate([np.insert(where, 0, number, axis=1) for number, where in enumerate(found)])
        values = np.concatenate([pair.label[pair.label > 0] for pair in pairs])
        self.places = [places[values == value].astype(np.int32) for value in np.unique(values)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        """Cuts one crop.

        Args:
            index: 0..count - 1.

        Returns:
            Before and after, float32, (channels, size, size), and the labels, int64, (size, size): 0
            unlabelled.
        """
        index = range(self.count)[index]
        # RandomState is the generator whose streams NumPy has frozen.
        seed = np.random.SeedSequence((self.seed, self.epoch, index)).generate_state(4)
        random = np.random.RandomState(seed)
        places = self.places[random.randint(len(self.places))]
        number, *place = places[random.randint(len(places))].tolist()
        pair = self.pairs[number]
        window = tuple(
            _span(at, length, self.size, random) for at, length in zip(place, pair.size, strict=True)
        )
        turns, mirrored = (random.randint(4), random.randint(2)) if self.symmetries else (0, 0)

        def cut(source: np.ndarray, dtype: type) -> Tensor:
            part = source[..., *window].astype(dtype)
            missing = [(0, 0)] * (part.ndim - 2) + [(0, self.size - length) for length in part.shape[-2:]]
            crop = torch.from_numpy(np.pad(part, missing))
            return torch.rot90(crop.mT if mirrored else crop, turns, (-2, -1)).contiguous()

        return cut(pair.before, np.float32), cut(pair.after, np.float32), cut(pair.label, np.int64)


def _span(place: int, length: int, size: int, random: np.random.RandomState) -> slice:
    """Along one axis: a crop that holds `place` and leaves the image only where this is smaller."""
    first, last = max(0, place - size + 1), min(place, max(0, length - size))
    start = random.randint(first, last + 1)
    return slice(start, start + size)
