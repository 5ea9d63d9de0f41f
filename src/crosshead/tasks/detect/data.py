from dataclasses import dataclass

from crosshead.tasks.task import Data, DataError, Meta


@dataclass(frozen=True, kw_only=True)
class DetectMeta(Meta):
    """To detect objects; the label of `classes[k]` is `k + 1`, and 0 the background.

    Attributes:
        category_ids: The number that the files give each class.
        masks: Whether objects have masks.
        min_size: What the short side of an image is scaled to, in pixels.
        max_size: What the long side must not exceed then, in pixels.
    """

    category_ids: tuple[int, ...]
    masks: bool
    min_size: int
    max_size: int
