"""The labelled objects of an image, as data sets give them and transforms take them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Objects:
    """The labelled objects of one image; `n` of them, none included.

    Attributes:
        boxes: float32, (n, 4): left, top, right and bottom in pixels, right and bottom exclusive.
        labels: int64, (n,), from 1 to the number of classes; 0 is the background and never occurs.
        masks: uint8, (n, height, width), 1 where the object is; None where masks were not asked for.
        crowd: bool, (n,): marks a region of many objects that are not told apart; it is not learned.
        area: float32, (n,), in pixels, as the file says: decides what is small, medium and large.
        image_id: the number of the image in its file.

    Raises:
        ValueError: if the arrays are not of one length.

    Example:
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
                    f"{name} must have {len(self.boxes)} entries, one for each box; got {len(array)}"
                )

    def __len__(self) -> int:
        return len(self.boxes)


def no_objects(*, image_id: int, size: tuple[int, int], masks: bool) -> Objects:
    """The objects of an image without any.

    Args:
        image_id: the number of the image.
        size: width and height of the image in pixels.
        masks: whether there is an array of masks, which is empty.

    Example:
        >>> no_objects(image_id=1, size=(6, 4), masks=True).masks.shape
        (0, 4, 6)
    """
    return Objects(
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
        masks=np.zeros((0, size[1], size[0]), np.uint8) if masks else None,
        crowd=np.zeros(0, bool),
        area=np.zeros(0, np.float32),
        image_id=image_id,
    )
