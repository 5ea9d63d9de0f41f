from dataclasses import dataclass

from crosshead.tasks.task import Data, DataError, Meta


@dataclass(frozen=True, kw_only=True)
class ClassifyMeta(Meta):
    """To classify images.

    Attributes:
        image_size: Side of the square that images are brought to, in pixels.
    """

    image_size: int
