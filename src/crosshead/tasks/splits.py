from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch.utils.data import Dataset


class DataError(ValueError):
    """A data set that cannot be used; the message is one line that names the file and the remedy.

    An error in a worker process of a loader is raised again in the main process with a whole traceback for a
    message; the line that says what is wrong is its last, and only that one is kept.

    Example:
        >>> raise DataError("photos/cat.jpg: not an image; replace the file")
        Traceback (most recent call last):
            ...
        crosshead.tasks.splits.DataError: photos/cat.jpg: not an image; replace the file
    """

    def __init__(self, message: str) -> None:
        if message.startswith("Caught DataError in "):
            message = message.rstrip().splitlines()[-1].partition("DataError: ")[2]
        super().__init__(" ".join(message.splitlines()))


@dataclass(frozen=True, kw_only=True)
class ImageSplits:
    """Labelled images in two splits.

    The items of both are pairs of a `PIL.Image.Image` (mode "L" for one band, "RGB" for three) and a label,
    an int that indexes `classes`. Both are map-style and can be sent to worker processes.

    Attributes:
        train: What to learn from.
        test: What to measure on: held out, never trained on.
        classes: The name of each label.
        in_chans: Bands of an image, 1 or 3.
        image_size: The natural side in pixels, to which a recipe brings the images.
        mean: For each band, the mean of the images scaled to 0..1.
        std: For each band, the standard deviation of the images scaled to 0..1.

    Raises:
        ValueError: When there are fewer than two classes, `in_chans` is neither 1 nor 3, or `mean` and `std`
            have not one value for each band.

    Example:
        >>> from crosshead.tasks.classify.digits import load_digits
        >>> splits = load_digits()
        >>> image, label = splits.test[0]
        >>> image.size, splits.classes[label]
        ((8, 8), '3')
    """

    train: Dataset[tuple[Image, int]]
    test: Dataset[tuple[Image, int]]
    classes: tuple[str, ...]
    in_chans: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise ValueError(f"classes is {self.classes!r}; classification needs two or more")
        if self.in_chans not in (1, 3):
            raise ValueError(f"in_chans is {self.in_chans}; images have 1 (grey) or 3 (RGB) bands")
        if not len(self.mean) == len(self.std) == self.in_chans:
            raise ValueError(
                f"mean has {len(self.mean)} values and std {len(self.std)}; give one for each of the "
                f"{self.in_chans} bands"
            )
