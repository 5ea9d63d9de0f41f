from dataclasses import dataclass

from crosshead.tasks.task import Data, DataError, Meta


@dataclass(frozen=True, kw_only=True)
class ChangeMeta(Meta):
    """To find change between two dates; `mean` and `std` are those of the earlier one.

    Attributes:
        bands: The name of each band.
        after_mean: Mean of each band at the later date.
        after_std: Standard deviation of each band at the later date.
    """

    bands: tuple[str, ...]
    after_mean: tuple[float, ...]
    after_std: tuple[float, ...]
