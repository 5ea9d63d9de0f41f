from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from crosshead.tasks.task import DataError


class ImageArray(Dataset[tuple[Image.Image, int]]):
    """Labelled images of one size, held in memory.

    Args:
        images: uint8, (N, height, width) for grey images or (N, height, width, 3) for RGB.
        labels: Integers, (N,).

    Raises:
        ValueError: When there are not as many labels as images.

    Example:
        >>> images = ImageArray(np.zeros((5, 28, 28), np.uint8), labels=np.arange(5))
        >>> image, label = images[3]
        >>> len(images), image.mode, image.size, label
        (5, 'L', (28, 28), 3)
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        if len(images) != len(labels):
            raise ValueError(
                f"images are {len(images)} and labels {len(labels)}; give one label for each image"
            )
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]), int(self.labels[index])


def check_labels(labels: np.ndarray, *, num_classes: int, path: Path) -> None:
    """Refuse labels that name no class.

    Args:
        labels: Integers, (N,).
        num_classes: Labels must lie in 0..num_classes - 1.
        path: The file that holds them, for the message.

    Raises:
        DataError: Naming the file, and the first wrong label with its position.

    Example:
        >>> check_labels(np.array([0, 9, 10]), num_classes=10, path=Path("labels"))
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: labels: label 10 at position 2, not in 0..9; get the file again
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        raise DataError(
            f"{path}: label {labels[wrong[0]]} at position {wrong[0]}, not in 0..{num_classes - 1}; "
            "get the file again"
        )
