"""What the splits of a data set hold: the end of a check."""

from collections.abc import Mapping
from dataclasses import dataclass

# Of more classes the rarest are shown.
MOST_CLASSES = 20


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What there is in each split, to be shown as a table.

    Attributes:
        totals: what is counted, to its number by split: images and the like. The first one names the splits.
        classes: the same for each class.
        notes: what else is to be said of the data set, a line each.

    Example:
        >>> cats = {"images of cat": {"train": 7}}
        >>> counts = Counts(totals={"images": {"train": 12, "test": 3}}, classes=cats)
        >>> print(*counts.lines(), sep="\\n")
                       train  test
        images            12     3
        images of cat      7     0
    """

    totals: Mapping[str, Mapping[str, int]]
    classes: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The table and the notes; of many classes those with the fewest in the first split."""
        splits = list(next(iter(self.totals.values())))
        rarest = sorted(self.classes, key=lambda name: self.classes[name].get(splits[0], 0))[:MOST_CLASSES]
        shown = {name: row for name, row in self.classes.items() if name in rarest}
        rows = {
            name: [f"{row.get(split, 0):,}" for split in splits]
            for name, row in {**self.totals, **shown}.items()
        }
        widths = [max(len(cell) for cell in column) for column in zip(splits, *rows.values(), strict=True)]
        first = max(map(len, rows))
        lines = [
            f"{name:{first}}"
            + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
            for name, cells in {"": splits, **rows}.items()
        ]
        hidden = len(self.classes) - len(shown)
        return [*lines, *([f"and {hidden} more classes, which have more"] if hidden else []), *self.notes]
