"""The cross-head interaction: linear maps over the head axis of an attention factor.

Legend: `B` batch, `H` heads, `R` rows of a factor, `S` its columns, `K` heads of a group. A residual matrix
`R[g, h]` says how much of head `h` enters head `g` beside what head `g` holds already.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from crosshead.attention.grid import as_integer
from crosshead.attention.impl.precision import cast

Mixing = Literal["none", "logits", "weights", "both"]
MIXINGS: tuple[str, ...] = ("none", "logits", "weights", "both")


class HeadMixing(NamedTuple):
    """The residual head-mixing matrices of one attention factor.

    Both act as `y_g = x_g + sum_h R[g, h] x_h`, so a matrix of zeros, like `None`, changes nothing. Where
    heads talk within groups of `K` consecutive heads, there is a matrix `(K, K)` for each group,
    `(H / K, K, K)` in all: mixing then costs `K / H` of what it costs among all heads. All matrices of one
    call have groups of one size.

    Attributes:
        logits: `(H, H)` or `(H / K, K, K)`, applied before the softmax (the paper's neighbours call it
            talking heads' P_l), or None.
        weights: `(H, H)` or `(H / K, K, K)`, applied after the softmax, or None.

    Source: arXiv 2402.17507 for interaction on the decomposed matrices; its exact form is not known to us,
    see docs/decisions.md.

    Example:
        >>> import torch
        >>> from crosshead import HeadMixing
        >>> HeadMixing(weights=torch.zeros(8, 8)).logits is None
        True
    """

    logits: Tensor | None = None
    weights: Tensor | None = None


def mix_heads(x: Tensor, residual: Tensor | None) -> Tensor:
    """Lets the heads of `x` talk to each other: `y_g = x_g + sum_h R[g, h] x_h`.

    Args:
        x: `(B, H, R, S)`, logits or weights.
        residual: `(H, H)`, the matrix R, or `(H / K, K, K)`, one for each group of `K` heads; None for no
            interaction.

    Returns:
        `(B, H, R, S)` in the dtype of `x`.

    Example:
        >>> import torch
        >>> x = torch.randn(1, 2, 3, 4)
        >>> swapped = mix_heads(x, torch.tensor([[-1.0, 1.0], [1.0, -1.0]]))
        >>> torch.equal(swapped, x.flip(1))
        True
    """
    if residual is None:
        return x
    heads = residual.shape[-1]
    matrix = cast(residual, x.dtype) + torch.eye(heads, dtype=x.dtype, device=x.device)
    # Expanded, it is a batched product; broadcast, matmul would fold the batch and keep a transposed copy of
    # x. In view(x.shape) torch.onnx would take the batch for a constant.
    if residual.ndim == 2:
        return (matrix.expand(x.shape[0], -1, -1) @ x.flatten(2)).view_as(x)
    grouped = x.unflatten(1, (-1, heads)).flatten(3)
    return (matrix.expand(x.shape[0], -1, -1, -1) @ grouped).view_as(x)


def matrix_shape(num_heads: int, group_size: int) -> tuple[int, ...]:
    """The shape of the matrices that mix so many heads: `(H, H)`, or `(H / K, K, K)` in groups of `K`.

    Example:
        >>> matrix_shape(12, 12), matrix_shape(12, 4)
        ((12, 12), (3, 4, 4))
    """
    groups = () if group_size == num_heads else (num_heads // group_size,)
    return (*groups, group_size, group_size)


class HeadMixer(nn.Module):
    """Holds the learned residual matrices of one factor, zero at first, so that interaction is learned.

    Args:
        num_heads: `H`.
        mixing: which of the two matrices exist: "none", "logits", "weights" or "both".
        group_size: heads `K` that talk to each other, a divisor of `num_heads`; all heads by default.
        device: where the matrices live.
        dtype: their floating-point type.

    Raises:
        ValueError: if a number is not positive, `group_size` does not divide `num_heads`, or `mixing` is not
            one of the four.
        TypeError: if a number is not an integer.

    Example:
        >>> HeadMixer(4, mixing="weights")().weights.shape
        torch.Size([4, 4])
        >>> HeadMixer(12, mixing="both", group_size=4)().logits.shape
        torch.Size([3, 4, 4])
    """

    logits: nn.Parameter | None
    weights: nn.Parameter | None

    def __init__(
        self,
        num_heads: int,
        *,
        mixing: Mixing = "both",
        group_size: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        num_heads = as_integer("num_heads", num_heads)
        if num_heads < 1:
            raise ValueError(f"num_heads must be positive; got {num_heads}")
        group_size = num_heads if group_size is None else as_integer("mixing_group_size", group_size)
        if group_size < 1 or num_heads % group_size:
            raise ValueError(
                f"mixing_group_size must be a positive divisor of num_heads={num_heads}; got {group_size}: "
                "heads talk within groups of as many"
            )
        if mixing not in MIXINGS:
            raise ValueError(f"mixing must be one of {', '.join(MIXINGS)}; got {mixing!r}")
        self.num_heads = num_heads
        self.mixing = mixing
        self.group_size = group_size
        for name in ("logits", "weights"):
            present = mixing in (name, "both")
            shape = matrix_shape(num_heads, group_size)
            matrix = torch.empty(shape, device=device, dtype=dtype) if present else None
            self.register_parameter(name, None if matrix is None else nn.Parameter(matrix))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Back to no interaction."""
        for matrix in self.parameters():
            nn.init.zeros_(matrix)

    def forward(self) -> HeadMixing:
        """Copies of the matrices, as the functional interface takes them."""
        # FSDP and offloading take the parameters of a module away as soon as its forward pass has ended.
        return HeadMixing(
            logits=None if self.logits is None else self.logits.clone(),
            weights=None if self.weights is None else self.weights.clone(),
        )

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        groups = "" if self.group_size == self.num_heads else f", group_size={self.group_size}"
        return f"{self.num_heads}, mixing={self.mixing!r}{groups}"
