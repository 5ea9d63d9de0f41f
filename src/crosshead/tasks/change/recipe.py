"""The choices of a change detection. Imports neither torch nor lightning."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from crosshead.tasks.recipe import Recipe

Source = Literal["folder", "landsat"]

# Label maps are read as bytes, in which 0 is unlabelled.
MOST_CLASSES = 255


@dataclass(frozen=True, kw_only=True)
class ChangeRecipe(Recipe):
    """Training of a net that sees what has changed between two dates. Each field is a flag of
    `crosshead train`.

    Example:
        >>> ChangeRecipe(data="landsat", model="ivit_nano", epochs=1, fold=4).check()
        Traceback (most recent call last):
            ...
        ValueError: fold is 4: give 0 to 3, one of the 4 folds
    """

    task: ClassVar[str] = "change"
    gives: ClassVar[str] = "Change between two dates"

    data: Source
    """Folders before/, after/ and label/ of your own pairs, or the Taizhou scene."""
    class_names: tuple[str, ...] = ("unchanged", "changed")
    """Names of the label values 1, 2 and so on; 0 is unlabelled."""
    folds: int = 4
    """Parts into which blocks of the images are dealt out."""
    fold: int = 0
    """The part that is the test set, from 0 on."""
    val: float = 0.1
    """Fraction of the blocks outside the test set to validate on, at most 0.5; 0 trains on all of them, and
    no epoch is the best."""
    block: int = 50
    """Side of a block in pixels."""
    guard: int = 0
    """Labels this near to a block of another split that is held out are not used, in pixels."""

    dim: int = 64
    """Channels of the decoder."""
    detail_dim: int = 16
    """Channels of the path at full resolution."""
    symmetric: bool = False
    """Exchanging the dates leaves the result as it is."""
    dropout: float = 0.0
    """Dropout before the scores."""

    crop: int = 64
    """Side of the crops to train on, in pixels."""
    crops: int = 512
    """Crops in an epoch."""
    tile: int = 128
    """Side of the overlapping windows in which larger pairs are seen, after training, in pixels."""
    symmetries: bool = True
    """Turn and mirror crops at random."""

    def check(self) -> None:
        """Refuses what cannot work, before anything is loaded.

        Raises:
            ValueError: if a value is out of its range or two values exclude each other.
        """
        super().check()
        self.require_counts("block", "dim", "detail_dim", "crop", "crops", "tile")
        self.require_fractions("dropout")
        self.require_no_less_than_zero("guard")
        if self.val > 0.5:
            raise ValueError(f"val is {self.val}: give at most 0.5, half of the blocks outside the test set")
        if self.folds < 2:
            raise ValueError(f"folds is {self.folds}: give 2 or more")
        if self.fold not in range(self.folds):
            raise ValueError(
                f"fold is {self.fold}: give 0 to {self.folds - 1}, one of the {self.folds} folds"
            )
        names = self.class_names
        if not 2 <= len(names) <= MOST_CLASSES or len(set(names)) < len(names):
            raise ValueError(f"class_names is {names}: give 2 to {MOST_CLASSES}, each of them once")
