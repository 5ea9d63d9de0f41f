"""The optional local term: a depth-wise convolution of the values over the token grid.

Legend: `B` batch, `H` heads, `N` tokens, `D` head dim, `C = H D` channels, `P` prefix tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosshead.attention.grid import as_integer

# To symbolic tracing a single step: it decides by sizes that a tracer does not know.
torch.fx.wrap("_check_axes")

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class LocalTerm(nn.Module):
    """What each token takes from the values of its neighbours on the grid, zero at first.

    Args:
        dim: channels `C`.
        axes: axes of the grid, 1 to 3.
        kernel_size: neighbours along each axis, odd.
        num_prefix_tokens: leading tokens that stand on no grid; they get zeros.
        device: where the weights live.
        dtype: their floating-point type.

    Raises:
        ValueError: if `kernel_size` is not odd and positive, or `axes` is not 1, 2 or 3.
        TypeError: if `kernel_size` is not an integer.

    Source: the depth-wise convolution of values in Agent Attention (arXiv 2312.08874) and Nystromformer
    (arXiv 2102.03902).

    Example:
        >>> import torch
        >>> LocalTerm(8, axes=2)(torch.randn(1, 2, 12, 4), grid=(3, 4)).shape
        torch.Size([1, 12, 8])
    """

    def __init__(
        self,
        dim: int,
        *,
        axes: int,
        kernel_size: int = 3,
        num_prefix_tokens: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        kernel_size = as_integer("local_kernel", kernel_size)
        if axes not in _CONVOLUTIONS:
            raise ValueError(f"axes must be 1, 2 or 3; got {axes}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"local_kernel must be odd and positive, or 0 for no local term; got {kernel_size}"
            )
        self.axes = axes
        self.num_prefix_tokens = num_prefix_tokens
        self.conv = _CONVOLUTIONS[axes](
            dim,
            dim,
            kernel_size,
            padding=kernel_size // 2,
            groups=dim,
            bias=False,
            device=device,
            dtype=dtype,
        )
        nn.init.zeros_(self.conv.weight)

    def forward(self, value: Tensor, *, grid: Sequence[int]) -> Tensor:
        """`(B, H, N, D)` values, `N = P + prod(grid)`, to `(B, N, C)`."""
        _check_axes(grid, self.axes)
        image = value[:, :, self.num_prefix_tokens :].transpose(-1, -2).flatten(1, 2).unflatten(-1, grid)
        near = self.conv(image).flatten(2).transpose(1, 2)
        return F.pad(near, (0, 0, self.num_prefix_tokens, 0))


def _check_axes(grid: Sequence[int], axes: int) -> None:
    if len(grid) != axes:
        raise ValueError(
            f"grid must have the {axes} axes that the local term was built for; got {tuple(grid)}: build the "
            f"layer with landmarks of {len(grid)} numbers, one per axis, or with local_kernel=0"
        )
