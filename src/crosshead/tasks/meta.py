"""What a net has to know about the data that it is trained on. Imports neither torch nor lightning."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What every task has to know.

    Attributes:
        classes: Their names, in the order of the net's outputs.
        in_chans: Bands of an image.
        mean: Mean of each band.
        std: Standard deviation of each band.
    """

    classes: tuple[str, ...]
    in_chans: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ImageFacts(Facts):
    """To classify images.

    Attributes:
        image_size: Side of the square that images are brought to, in pixels.
    """

    image_size: int


@dataclass(frozen=True, kw_only=True)
class PixelFacts(Facts):
    """To label pixels.

    Attributes:
        ignore_index: The label of pixels that are neither learnt nor measured.
    """

    ignore_index: int


@dataclass(frozen=True, kw_only=True)
class ObjectFacts(Facts):
    """To detect objects; the label of `classes[k]` is `k + 1`, and 0 the background.

    Attributes:
        category_ids: The number that the files give each class.
        masks: Whether objects have masks.
        short_side: What the short side of an image is scaled to, in pixels.
        long_side: What the long side must not exceed then, in pixels.
    """

    category_ids: tuple[int, ...]
    masks: bool
    short_side: int
    long_side: int


@dataclass(frozen=True, kw_only=True)
class PairFacts(Facts):
    """To find change between two dates; `mean` and `std` are those of the earlier one.

    Attributes:
        bands: The name of each band.
        after_mean: Mean of each band at the later date.
        after_std: Standard deviation of each band at the later date.
    """

    bands: tuple[str, ...]
    after_mean: tuple[float, ...]
    after_std: tuple[float, ...]
