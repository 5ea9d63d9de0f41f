"""Attention whose weights are products of features: keys and values are summed once for all queries."""

from torch import Tensor

# As cosFormer clamps its denominator.
_LEAST_DENOMINATOR = 1e-6


def kernel_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`O_i = sum_j (q_i . k_j) v_j / sum_j (q_i . k_j)`, without a map of queries by keys.

    Args:
        q: `(..., N, F)` features of the queries.
        k: `(..., M, F)` features of the keys, zero where a key takes no part.
        v: `(..., M, D)` values.

    Returns:
        `(..., N, D)`. Denominators below 1e-6 count as 1e-6.

    Example:
        >>> import torch
        >>> v = torch.tensor([[1.0], [3.0]])
        >>> kernel_attention(torch.ones(2, 4), torch.ones(2, 4), v).tolist()
        [[2.0], [2.0]]
    """
    total = k.sum(-2).unsqueeze(-1)
    return q @ (k.transpose(-1, -2) @ v) / (q @ total).clamp(min=_LEAST_DENOMINATOR)
