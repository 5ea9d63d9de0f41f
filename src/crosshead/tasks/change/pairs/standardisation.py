from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from crosshead.tasks.change.pairs.images import ImagePair, ImagePairs


@dataclass(frozen=True, kw_only=True)
class BandStatistics:
    """Mean and spread of each band at each date, of plain numbers that a run can keep as JSON.

    Each date has its own: season, sun and haze shift whole images, and a shift common to all pixels is no
    change.

    Attributes:
        before_mean: Of each band at the earlier date.
        before_std: Of each band at the earlier date, 1 where a band is constant.
        after_mean: Of each band at the later date.
        after_std: Of each band at the later date, 1 where a band is constant.

    Example:
        >>> unit = {"before_mean": (2.0,), "before_std": (2.0,), "after_mean": (0.0,), "after_std": (1.0,)}
        >>> image = np.full((1, 1, 2), 6, np.uint8)
        >>> pair = ImagePair(name="field", before=image, after=image, label=image[0])
        >>> BandStatistics(**unit).standardise(pair).before
        array([[[2., 2.]]], dtype=float32)
    """

    before_mean: tuple[float, ...]
    before_std: tuple[float, ...]
    after_mean: tuple[float, ...]
    after_std: tuple[float, ...]

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in asdict(self).items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"statistics have {lengths} values; give one for each band")

    def standardise(self, pair: ImagePair) -> ImagePair:
        """Bring the bands of both dates to mean 0 and spread 1, in float32.

        Args:
            pair: One pair with as many bands as there are statistics.

        Returns:
            The pair with other numbers and the same labels.

        Raises:
            ValueError: When the pair has another number of bands.
        """
        if len(pair.before) != len(self.before_mean):
            raise ValueError(
                f"{pair.name} has {len(pair.before)} bands where statistics are of {len(self.before_mean)}; "
                "give a pair of the same sensor"
            )
        return replace(
            pair,
            before=_standardised(pair.before, self.before_mean, self.before_std),
            after=_standardised(pair.after, self.after_mean, self.after_std),
        )


def band_statistics(
    pairs: ImagePairs, held_out: Sequence[np.ndarray] | None = None, *, transductive: bool = False
) -> BandStatistics:
    """Measure the bands of each date, over all pairs together.

    Args:
        pairs: The images.
        held_out: For each pair a boolean map (height, width); only pixels outside count. Labelled or not
            makes no difference.
        transductive: Whether whole images count, the held-out blocks too: no label is used, but the numbers
            then belong to these very images, and a result should say so.

    Returns:
        The statistics.

    Raises:
        ValueError: When neither or both of `held_out` and `transductive` are given, or all pixels are held
            out.

    Example:
        >>> image = np.array([[[1, 3, 200]]], np.uint8)
        >>> pair = ImagePair(name="field", before=image, after=image, label=image[0])
        >>> pairs = ImagePairs(pairs=(pair,), bands=("red",), classes=("unchanged", "changed"))
        >>> statistics = band_statistics(pairs, [np.array([[False, False, True]])])
        >>> statistics.before_mean, statistics.before_std
        ((2.0,), (1.0,))
    """
    if (held_out is not None) == transductive:
        raise ValueError(
            f"held_out is {'given' if held_out is not None else None} and transductive {transductive}; give "
            "the held-out blocks, or transductive=True to measure whole images"
        )
    masks = [np.zeros(pair.size, bool) for pair in pairs.pairs] if held_out is None else held_out
    if all(mask.all() for mask in masks):
        raise ValueError("held_out covers every pixel; leave some to measure")
    values = {
        "before": [pair.before[:, ~mask] for pair, mask in zip(pairs.pairs, masks, strict=True)],
        "after": [pair.after[:, ~mask] for pair, mask in zip(pairs.pairs, masks, strict=True)],
    }
    measured: dict[str, tuple[float, ...]] = {}
    for date, parts in values.items():
        joined = np.concatenate(parts, axis=1)
        measured[f"{date}_mean"] = tuple(joined.mean(axis=1, dtype=np.float64).tolist())
        spread = joined.std(axis=1, dtype=np.float64)
        measured[f"{date}_std"] = tuple(np.where(spread > 0, spread, 1.0).tolist())
    return BandStatistics(**measured)


def _standardised(image: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    centre, spread = np.array(mean)[:, None, None], np.array(std)[:, None, None]
    return ((image - centre) / spread).astype(np.float32)
