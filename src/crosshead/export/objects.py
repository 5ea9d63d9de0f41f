"""Objects that several nets find in one image: which are the same, whatever their order."""

from collections.abc import Sequence

from torch import Tensor
from torchvision.ops import box_iou

from crosshead.runs.folder import RunError

# Objects of one class that a net finds overlap by half at most: none has two partners that overlap it so far.
SAME = 0.9
# Pixels below which a side is none: at the border of an image RetinaNet finds lines, which overlap nothing.
SLIVER = 0.1
# Fraction of all objects that rounding may make others: which of two boxes suppresses the other is yes or no.
LACKING = 0.05


def partners(found: Sequence[Tensor], expected: Sequence[Tensor]) -> dict[int, int]:
    """Which objects are the same: of one class, their boxes one upon the other.

    Equal scores may come in any order, and rounding may change which of two boxes is suppressed.

    Args:
        found: boxes (n, 4), labels (n) and whatever else is known of each.
        expected: the same, of m objects.

    Returns:
        From the places of expected objects, where they were found, to those of their partners.

    Example:
        >>> from torch import tensor
        >>> boxes, labels = tensor([[0.0, 0, 4, 4], [6, 6, 9, 9], [0, 0, 4, 4]]), tensor([1, 1, 2])
        >>> partners((boxes, labels), (boxes.flip(0)[:2], labels.flip(0)[:2]))
        {0: 2, 1: 1}
    """
    (boxes, labels, *_), (others, other_labels, *_) = found, expected
    same = box_iou(others.double(), boxes.double()) >= SAME
    return dict((same & (other_labels[:, None] == labels)).nonzero().tolist())


def fraction_shared(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """How many of the objects of both are those of the other; 1 where neither finds any.

    Example:
        >>> from torch import tensor
        >>> boxes, labels = tensor([[0.0, 0, 4, 4], [6, 6, 9, 9]]), tensor([1, 1])
        >>> fraction_shared((boxes, labels), (boxes[:1], labels[:1]))
        0.5
    """
    found, expected = _with_extent(found), _with_extent(expected)
    most = max(len(found[0]), len(expected[0]))
    return len(partners(found, expected)) / most if most else 1.0


def require_shared(
    found: Sequence[Tensor], expected: Sequence[Tensor], truth: Sequence[Tensor], what: str
) -> None:
    """Refuses a file that lacks more than rounding explains.

    Args:
        found: by the file.
        expected: by PyTorch in float32.
        truth: by PyTorch in float64.
        what: they look at.

    Raises:
        RunError: if the file finds less of the truth, by 5 % of it, than PyTorch does.
    """
    mine, theirs = (fraction_shared(each, truth) for each in (found, expected))
    if mine < theirs - LACKING:
        raise RunError(
            f"the file differs from the net: in {what} it finds {mine:.0%} of what float64 does, and the net "
            f"in float32 {theirs:.0%}; nothing is written"
        )


def shared(*runs: Sequence[Tensor]) -> list[list[Tensor]]:
    """The objects that all have found, in the order of the last.

    Args:
        *runs: of each, boxes (n, 4), labels (n) and whatever else is known of each object.
    """
    solid = [_with_extent(run) for run in runs]
    places = [partners(run, solid[-1]) for run in solid]
    common = [place for place in range(len(solid[-1][0])) if all(place in found for found in places)]
    return [
        [values[[found[place] for place in common]] for values in run]
        for run, found in zip(solid, places, strict=True)
    ]


def _with_extent(run: Sequence[Tensor]) -> list[Tensor]:
    boxes = run[0]
    kept = (boxes[:, 2:] - boxes[:, :2] >= SLIVER).all(1)
    return [values[kept] for values in run]
