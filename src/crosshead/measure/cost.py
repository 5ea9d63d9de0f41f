"""What interactive attention costs, by arithmetic alone: multiply-adds, bytes, parameters.

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks, `D` head dim, `E` value head
dim, `C` channels. One multiply-add is two of the floating-point operations that torch's FLOP counter counts.

The operator takes `L H (N + M) (D + E)` multiply-adds for its four products and `L H^2` per token and matrix
for mixing; for self-attention with `D = E` and both mixings that is `4 N L H (D + H)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

Mixing = Literal["none", "logits", "weights", "both"]
Implementation = Literal["reference", "streamed"]

_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
_MATRICES = {"none": 0, "logits": 1, "weights": 1, "both": 2}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one forward pass; costs add up.

    Attributes:
        multiply_adds: of all matrix products and convolutions.
        bytes_moved: the least traffic to memory: every operand read once and every result written once.
        activation_bytes: kept for the backward pass beyond inputs and outputs.
        parameters: learned numbers.

    Example:
        >>> one = Cost(multiply_adds=10, bytes_moved=8, activation_bytes=4)
        >>> (one + one).multiply_adds
        20
    """

    multiply_adds: int
    bytes_moved: int
    activation_bytes: int
    parameters: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            multiply_adds=self.multiply_adds + other.multiply_adds,
            bytes_moved=self.bytes_moved + other.bytes_moved,
            activation_bytes=self.activation_bytes + other.activation_bytes,
            parameters=self.parameters + other.parameters,
        )


def operator_cost(
    *,
    queries: int,
    landmarks: int,
    heads: int,
    head_dim: int,
    keys: int | None = None,
    value_dim: int | None = None,
    mixing: Mixing = "both",
    mixing_group_size: int | None = None,
    batch: int = 1,
    impl: Implementation = "reference",
    dtype: str = "float32",
) -> Cost:
    """The cost of `crosshead.interactive_attention`, landmarks given.

    Args:
        queries: `N`.
        landmarks: `L`, all of them: the product over the axes, prefix tokens included.
        heads: `H`.
        head_dim: `D`.
        keys: `M`; `N` if None.
        value_dim: `E`; `D` if None.
        mixing: which residual matrices both factors have.
        mixing_group_size: heads that talk to each other; `H` if None.
        batch: `B`.
        impl: "reference" keeps both factors for the backward pass, `O(N L H)`; "streamed" keeps the aggregate
            of values and the normaliser of the key factor, `O(L H E)`.
        dtype: of the operands; factors are float32 at least.

    Returns:
        The cost, without parameters: the mixing matrices are operands here.

    Raises:
        ValueError: if a size is below one, or `mixing`, `impl` or `dtype` is unknown.

    Example:
        >>> operator_cost(queries=9, landmarks=4, heads=2, head_dim=8).multiply_adds == 4 * 9 * 4 * 2 * 10
        True
        >>> sizes = {"landmarks": 64, "heads": 8, "head_dim": 64, "impl": "streamed"}
        >>> short, long = (operator_cost(queries=n, **sizes) for n in (4096, 65536))
        >>> short.activation_bytes == long.activation_bytes
        True
    """
    keys = queries if keys is None else keys
    value_dim = head_dim if value_dim is None else value_dim
    _check_sizes(queries=queries, landmarks=landmarks, heads=heads, head_dim=head_dim, keys=keys)
    _check_sizes(value_dim=value_dim, batch=batch)
    matrices = _lookup("mixing", mixing, _MATRICES)
    heard = _heads_heard(heads, mixing_group_size)
    size = _lookup("dtype", dtype, _BYTES)
    wide = max(size, 4)
    rows = batch * heads
    tokens = queries + keys
    products = rows * landmarks * tokens * (head_dim + value_dim)
    mixings = rows * heard * landmarks * tokens * matrices
    operands = rows * (head_dim * (tokens + 2 * landmarks) + value_dim * keys) + 2 * matrices * heads * heard

    aggregate = rows * landmarks * value_dim
    if _lookup("impl", impl, {"reference": True, "streamed": False}):
        # Softmax keeps its weights, logit mixing what it mixed, the value product the factor it multiplied.
        held = 1 + (mixing in ("logits", "both")) + (mixing in ("weights", "both") or size < wide)
        kept = held * rows * landmarks * tokens * wide + aggregate * wide
        kept += 2 * rows * landmarks * head_dim * wide  # the landmarks, scaled
        if size < wide:  # the wide copies that the products were computed from
            kept += rows * (head_dim * tokens + value_dim * keys) * wide
    else:
        kept = aggregate * size + rows * landmarks * wide
    return Cost(
        multiply_adds=products + mixings,
        bytes_moved=(operands + rows * queries * value_dim) * size,
        activation_bytes=kept,
    )


def pooling_cost(
    *,
    grid: Sequence[int],
    landmarks: int | Sequence[int],
    channels: int,
    batch: int = 1,
    dtype: str = "float32",
) -> Cost:
    """The cost of `crosshead.pool_landmarks` without a mask: a product with a matrix for each axis.

    Args:
        grid: tokens along each axis.
        landmarks: cells along each axis, one number for all axes or one for each.
        channels: `C`.
        batch: `B`, times heads where heads are pooled apart.
        dtype: of the tokens.

    Returns:
        The cost; nothing is kept, for the backward pass of an average needs no activations.

    Raises:
        ValueError: if a size is below one, landmarks are not one per axis, or `dtype` is unknown.

    Example:
        >>> pooling_cost(grid=(6, 8), landmarks=(2, 4), channels=1).multiply_adds == 6 * 8 * 4 + 2 * 6 * 4
        True
    """
    size = _lookup("dtype", dtype, _BYTES)
    cells = cells_along(grid, landmarks)
    _check_sizes(channels=channels, batch=batch)
    multiply_adds = 0
    for axis in range(len(grid)):
        multiply_adds += prod(grid[: axis + 1]) * prod(cells[axis:])
    return Cost(
        multiply_adds=batch * channels * multiply_adds,
        bytes_moved=batch * channels * (prod(grid) + prod(cells)) * size,
        activation_bytes=0,
    )


def layer_cost(
    *,
    dim: int,
    heads: int,
    grid: Sequence[int],
    landmarks: int | Sequence[int],
    context_grid: Sequence[int] | None = None,
    mixing: Mixing = "both",
    mixing_group_size: int | None = None,
    qkv_bias: bool = True,
    qk_norm: bool = False,
    proj_bias: bool = True,
    local_kernel: int = 0,
    num_prefix_tokens: int = 0,
    batch: int = 1,
    impl: Implementation = "reference",
    dtype: str = "float32",
) -> Cost:
    """The cost of `crosshead.InteractiveAttention` without masks: projections, pooling, operator, local term.

    Args:
        dim: `C`.
        heads: `H`.
        grid: query tokens along each axis.
        landmarks: cells along each axis, one number for all axes or one for each.
        context_grid: key tokens along each axis; None for self-attention.
        mixing: as the layer's.
        mixing_group_size: as the layer's.
        qkv_bias: as the layer's.
        qk_norm: as the layer's. A layer norm with weight and bias is assumed; its arithmetic is not counted.
        proj_bias: as the layer's.
        local_kernel: as the layer's.
        num_prefix_tokens: as the layer's.
        batch: `B`.
        impl: as for `operator_cost`.
        dtype: of tokens and parameters.

    Returns:
        The cost, parameters included.

    Raises:
        ValueError: if a size is below one, or sizes do not fit.

    Example:
        >>> cost = layer_cost(dim=384, heads=12, grid=(28, 28), landmarks=7)
        >>> cost.parameters == 4 * 384 * 384 + 4 * 384 + 4 * 12 * 12
        True
    """
    _check_sizes(dim=dim, heads=heads, batch=batch)
    if dim % heads:
        raise ValueError(f"dim must be a multiple of heads; got dim={dim} and heads={heads}")
    size = _lookup("dtype", dtype, _BYTES)
    seen = grid if context_grid is None else context_grid
    cells = tuple(map(min, cells_along(grid, landmarks), cells_along(seen, landmarks)))
    queries, keys, pooled = (num_prefix_tokens + prod(axes) for axes in (grid, seen, cells))

    operator = operator_cost(
        queries=queries,
        keys=keys,
        landmarks=pooled,
        heads=heads,
        head_dim=dim // heads,
        mixing=mixing,
        mixing_group_size=mixing_group_size,
        batch=batch,
        impl=impl,
        dtype=dtype,
    )
    for pooled_grid in (grid, seen):
        operator += pooling_cost(grid=pooled_grid, landmarks=cells, channels=dim, batch=batch, dtype=dtype)
    projected = 2 * queries + 2 * keys  # queries and outputs of N tokens, keys and values of M
    local = dim * local_kernel ** len(grid)
    parameters = (
        4 * dim * dim
        + 3 * dim * qkv_bias
        + dim * proj_bias
        + 4 * (dim // heads) * qk_norm
        + 2 * _MATRICES[mixing] * heads * _heads_heard(heads, mixing_group_size)
        + local
    )
    return operator + Cost(
        multiply_adds=batch * (projected * dim * dim + prod(grid) * local),
        bytes_moved=(batch * dim * 2 * projected + parameters) * size,
        # Queries, keys and values, their landmarks, and what the last projection projects.
        activation_bytes=batch * dim * (2 * queries + 2 * keys + 2 * pooled) * size,
        parameters=parameters,
    )


def softmax_attention_cost(
    *,
    queries: int,
    heads: int,
    head_dim: int,
    keys: int | None = None,
    value_dim: int | None = None,
    talking_heads: bool = False,
    batch: int = 1,
    dtype: str = "float32",
) -> Cost:
    """The cost of exact softmax attention, or of talking heads, to compare with.

    Args:
        queries: `N`.
        heads: `H`.
        head_dim: `D`.
        keys: `M`; `N` if None.
        value_dim: `E`; `D` if None.
        talking_heads: whether the N x M map is mixed over heads before and after the softmax. Without, it is
            never stored and one float32 normaliser is kept for each query; with, three maps are kept: the
            logits, the weights, and the mixed weights.
        batch: `B`.
        dtype: of the operands.

    Returns:
        The cost, without parameters.

    Raises:
        ValueError: if a size is below one, or `dtype` is unknown.

    Source: talking-heads attention is arXiv 2003.02436.

    Example:
        >>> exact = softmax_attention_cost(queries=4096, heads=8, head_dim=64)
        >>> factored = operator_cost(queries=4096, landmarks=64, heads=8, head_dim=64, mixing="none")
        >>> exact.multiply_adds / factored.multiply_adds
        32.0
    """
    keys = queries if keys is None else keys
    value_dim = head_dim if value_dim is None else value_dim
    _check_sizes(queries=queries, heads=heads, head_dim=head_dim, keys=keys, value_dim=value_dim, batch=batch)
    size = _lookup("dtype", dtype, _BYTES)
    rows, wide = batch * heads, max(size, 4)
    cost = Cost(
        multiply_adds=rows * queries * keys * (head_dim + value_dim),
        bytes_moved=rows * (queries + keys) * (head_dim + value_dim) * size,
        activation_bytes=rows * queries * wide,
    )
    if not talking_heads:
        return cost
    return Cost(
        multiply_adds=cost.multiply_adds + 2 * rows * heads * queries * keys,
        bytes_moved=cost.bytes_moved + 2 * heads**2 * size,
        activation_bytes=3 * rows * queries * keys * wide,
    )


def cells_along(grid: Sequence[int], landmarks: int | Sequence[int]) -> tuple[int, ...]:
    """Cells along each axis: `min(landmarks, axis)`.

    Args:
        grid: tokens along each axis.
        landmarks: cells along each axis, one number for all axes or one for each.

    Raises:
        ValueError: if a size is below one, or landmarks are not one per axis.

    Example:
        >>> cells_along((56, 5), 7)
        (7, 5)
    """
    wanted = (landmarks,) * len(grid) if isinstance(landmarks, int) else tuple(landmarks)
    if len(wanted) != len(grid):
        raise ValueError(
            f"landmarks must be one number or one for each axis of grid; got {landmarks} for {tuple(grid)}"
        )
    for axis in (*grid, *wanted):
        _check_sizes(**{"grid and landmarks": axis})
    return tuple(map(min, wanted, grid))


def _heads_heard(heads: int, group_size: int | None) -> int:
    size = heads if group_size is None else group_size
    if size < 1 or heads % size:
        raise ValueError(f"mixing_group_size must be a positive divisor of heads={heads}; got {size}")
    return size


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1; got {size}")


def _lookup(name: str, key: str, table: dict[str, int]) -> int:
    if key not in table:
        raise ValueError(f"{name} must be one of {', '.join(table)}; got {key!r}")
    return table[key]
