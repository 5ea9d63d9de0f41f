"""Convolutions over rows that are shared out to ranks: each fetches what it needs of its neighbours' rows.

Legend: `B` batch, `C` channels, `n` rows of this rank. A convolution of stride `s`, padded by half its
width, gives row `i` around row `i s` of the image: it belongs to the rank that has that row.
"""

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from crosshead.attention.halo import with_halo

if TYPE_CHECKING:
    from crosshead.attention.sequence_parallel import Ranks

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


class _OfRows:
    """Takes and gives `(B, C, n, ...)` of one rank, in place of the whole image."""

    ranks: "Ranks | None" = None
    kernel_size: Any
    dilation: Any
    stride: Any

    def forward(self, image: Tensor) -> Tensor:
        whole = super().forward  # pyright: ignore[reportAttributeAccessIssue]
        if self.ranks is None:
            return whole(image)
        facts = {"batch": image.shape[0], "dtype": image.dtype, "columns": tuple(image.shape[3:])}
        rows, _ = self.ranks.agree((image.shape[2], image.shape[2]), facts)
        stride, reach = self.stride[0], _reach(self)
        ends = list(accumulate(rows))
        first, last = ends[self.ranks.rank] - image.shape[2], ends[self.ranks.rank]
        if reach <= stride:
            _check_patches(rows, stride)
            return whole(image)
        if stride > 1:
            _check_rows_left(rows, stride)
        width = reach // 2
        wider, above = with_halo(image, width=width + stride - 1, rows=rows, ranks=self.ranks)
        begin = first - above
        # Rows are left out so that the first one is one around which the whole convolution, too, gives a row.
        begin_aligned = -(-begin // stride) * stride
        given = whole(wider[:, :, begin_aligned - begin :])
        skipped = -(-first // stride) - begin_aligned // stride
        return given.narrow(2, skipped, -(-last // stride) - -(-first // stride))


class ConvolutionOfRows1d(_OfRows, nn.Conv1d):
    """`nn.Conv1d` over a part of the places."""


class ConvolutionOfRows2d(_OfRows, nn.Conv2d):
    """`nn.Conv2d` over some rows of an image."""


class ConvolutionOfRows3d(_OfRows, nn.Conv3d):
    """`nn.Conv3d` over some slices of a volume."""


_OF_ROWS: dict[type, type] = {
    nn.Conv1d: ConvolutionOfRows1d,
    nn.Conv2d: ConvolutionOfRows2d,
    nn.Conv3d: ConvolutionOfRows3d,
}
_WHOLE: dict[type, type] = {of_rows: whole for whole, of_rows in _OF_ROWS.items()}


def share_rows(convolution: Convolution, ranks: "Ranks | None") -> None:
    """Lets a convolution take rows of one rank, or whole images again; its parameters stay where they are."""
    if _reach(convolution) == 1 and convolution.stride[0] == 1:
        return  # each row by itself
    kind = _WHOLE.get(type(convolution), type(convolution))
    convolution.__class__ = kind if ranks is None else _OF_ROWS[kind]
    if isinstance(convolution, _OfRows):
        convolution.ranks = ranks


def refuse_unless_rows_can_be_shared(name: str, convolution: Convolution) -> None:
    """Refuses a convolution that is no plain one, or pads in another way.

    Raises:
        NotImplementedError: with the name.
    """
    reach, padding = _reach(convolution), convolution.padding
    before = {"same": (reach - 1) / 2, "valid": 0}.get(padding) if isinstance(padding, str) else padding[0]
    fits = before == (reach - 1) / 2 or (before == 0 and reach <= convolution.stride[0])
    if type(convolution) not in (*_OF_ROWS, *_WHOLE) or convolution.padding_mode != "zeros" or not fits:
        raise NotImplementedError(
            f"{name} is a {type(convolution).__name__} over {reach} rows with stride {convolution.stride[0]} "
            f"and padding {padding} of {convolution.padding_mode}: rows can be shared out where a plain "
            "convolution is padded by half its width with zeros, or cuts patches"
        )


def _reach(convolution: Any) -> int:
    return (convolution.kernel_size[0] - 1) * convolution.dilation[0] + 1


def _check_patches(rows: list[int], stride: int) -> None:
    if any(count % stride for count in rows[:-1]):
        raise ValueError(
            f"each rank but the last must have whole patches of {stride} rows; got {rows} rows: share out "
            "rows of patches"
        )


def _check_rows_left(rows: list[int], stride: int) -> None:
    ends = [0, *accumulate(rows)]
    left = [-(-b // stride) - -(-a // stride) for a, b in pairwise(ends)]
    if min(left) < 1:
        raise ValueError(
            f"each rank must have a row left behind a stride of {stride}; got {rows} rows, which become "
            f"{left}: take fewer ranks, or give each more rows"
        )
