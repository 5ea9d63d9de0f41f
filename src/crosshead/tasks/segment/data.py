from dataclasses import dataclass

from crosshead.tasks.task import Data, DataError, Meta


@dataclass(frozen=True, kw_only=True)
class SegmentMeta(Meta):
    """To label pixels.

    Attributes:
        ignore_index: The label of pixels that are neither learnt nor measured.
    """

    ignore_index: int
