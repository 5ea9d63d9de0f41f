from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch.utils.data import Dataset


@dataclass(frozen=True, kw_only=True, eq=False)
class Objects:
    """The labelled objects of one image; `n` of them, none included.

    Attributes:
        boxes: float32, (n, 4): left, top, right and bottom in pixels, right and bottom exclusive.
        labels: int64, (n,), from 1 to the number of classes; 0 is the background and never occurs.
        masks: uint8, (n, height, width), 1 where the object is; None where masks were not asked for.
        crowd: bool, (n,): marks a region of many objects that are not told apart; no object to learn.
        area: float32, (n,), in pixels, as the file says: what small, medium and large go by.
        image_id: The number of the image in its file.

    Raises:
        ValueError: When the arrays are not of one length.

    Example:
        >>> from crosshead.tasks.detect.coco.file import no_objects
        >>> len(no_objects(image_id=7, size=(32, 24), masks=True))
        0
    """

    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None
    crowd: np.ndarray
    area: np.ndarray
    image_id: int

    def __post_init__(self) -> None:
        for name in ("labels", "masks", "crowd", "area"):
            array = getattr(self, name)
            if array is not None and len(array) != len(self.boxes):
                raise ValueError(
                    f"{name} has {len(array)} entries and boxes {len(self.boxes)}; give one for each object"
                )

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, kw_only=True)
class DetectionSplits:
    """Images with labelled objects in two splits.

    The items of both are pairs of a `PIL.Image.Image` (mode "L" for one band, "RGB" for three) and its
    `Objects`. Both are map-style and can be sent to worker processes.

    Attributes:
        train: What to learn from.
        test: What to measure on: held out, never trained on.
        classes: The names of labels 1, 2 and so on; label `k` is `classes[k - 1]`.
        category_ids: The number that the file gives each class, in the same order.
        masks: Whether the objects have masks.
        in_chans: Bands of an image, 1 or 3.
        min_size: The longest short side of an image in either split, in pixels.
        max_size: The longest long side of an image in either split, in pixels. A detector that is told
            to scale images to these two shrinks none.
        max_objects: The most objects in an image of either split.
        mean: For each band, the mean of the training images scaled to 0..1.
        std: For each band, the standard deviation of the training images scaled to 0..1.

    Raises:
        ValueError: When there is no class, there are not as many category ids as classes, `in_chans` is
            neither 1 nor 3, or `mean` and `std` have not one value for each band.
    """

    train: Dataset[tuple[Image, Objects]]
    test: Dataset[tuple[Image, Objects]]
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    masks: bool
    in_chans: int
    min_size: int
    max_size: int
    max_objects: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("classes is empty; detection needs one or more")
        if len(self.category_ids) != len(self.classes):
            raise ValueError(
                f"category_ids has {len(self.category_ids)} values and classes {len(self.classes)}; "
                "give one for each class"
            )
        _check_bands(self.in_chans, self.mean, self.std)


@dataclass(frozen=True, kw_only=True)
class SegmentationSplits:
    """Images with a label for each pixel in two splits.

    The items of both are pairs of a `PIL.Image.Image` (mode "L" for one band, "RGB" for three) and an array
    of labels, (height, width), uint8, or uint16 where there are more than 255 classes: each indexes `classes`
    or is `ignore_index`. Both are map-style and can be sent to worker processes.

    Attributes:
        train: What to learn from.
        test: What to measure on: held out, never trained on.
        classes: The name of each label, background included where it is one.
        ignore_index: The label of pixels that are neither learnt nor measured: no class has it.
        in_chans: Bands of an image, 1 or 3.
        min_size: The longest short side of an image in either split, in pixels.
        max_size: The longest long side of an image in either split, in pixels.
        mean: For each band, the mean of the training images scaled to 0..1.
        std: For each band, the standard deviation of the training images scaled to 0..1.

    Raises:
        ValueError: When there are fewer than two classes, `ignore_index` is the label of one, `in_chans` is
            neither 1 nor 3, or `mean` and `std` have not one value for each band.
    """

    train: Dataset[tuple[Image, np.ndarray]]
    test: Dataset[tuple[Image, np.ndarray]]
    classes: tuple[str, ...]
    ignore_index: int
    in_chans: int
    min_size: int
    max_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise ValueError(f"classes is {self.classes!r}; segmentation needs two or more")
        if 0 <= self.ignore_index < len(self.classes):
            raise ValueError(
                f"ignore_index is {self.ignore_index}, the label of {self.classes[self.ignore_index]!r}; "
                f"give {len(self.classes)} or more"
            )
        _check_bands(self.in_chans, self.mean, self.std)


def ignored_label(num_classes: int) -> int:
    """The label that stands for pixels without one, beside a number of classes.

    Example:
        >>> ignored_label(150), ignored_label(300)
        (255, 65535)
    """
    return 255 if num_classes <= 255 else 65_535


def _check_bands(in_chans: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    if in_chans not in (1, 3):
        raise ValueError(f"in_chans is {in_chans}; images have 1 (grey) or 3 (RGB) bands")
    if not len(mean) == len(std) == in_chans:
        raise ValueError(
            f"mean has {len(mean)} values and std {len(std)}; give one for each of the {in_chans} bands"
        )
