"""What every implementation computes from: checked, cast as autocast wants, and zero at masked places.

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks, `D` head dim,
`E` value head dim.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crosshead.attention.grid import check_mask, refuse_nested, zero_outside
from crosshead.attention.impl.precision import autocast_exists
from crosshead.attention.mixing import HeadMixing


class Operands(NamedTuple):
    """The operands of the operator, in the order of its schema; masked places hold zeros.

    Attributes:
        q: queries, `(B, H, N, D)`.
        k: keys, `(B, H, M, D)`.
        v: values, `(B, H, M, E)`.
        ql: query landmarks, `(B, H, L, D)`.
        kl: key landmarks, `(B, H, L, D)`.
        p_query: `(H, H)`, the residual matrix that mixes the logits of the query factor, or `(H / K, K, K)`
            where groups of K heads talk among themselves; or None.
        w_query: the one that mixes its weights.
        p_key: the one that mixes the logits of the key factor.
        w_key: the one that mixes its weights.
        key_mask: bool `(B, M)`, True = takes part, or None.
        landmark_mask: bool `(B, L)`, or None.
        scale: the factor s of the logits.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    ql: Tensor
    kl: Tensor
    p_query: Tensor | None
    w_query: Tensor | None
    p_key: Tensor | None
    w_key: Tensor | None
    key_mask: Tensor | None
    landmark_mask: Tensor | None
    scale: float

    @property
    def group_size(self) -> int | None:
        """How many heads talk to each other; None where none do."""
        matrices = (self.p_query, self.w_query, self.p_key, self.w_key)
        return next((matrix.shape[-1] for matrix in matrices if matrix is not None), None)


# Which mask says what takes part, by the names of the public functions.
_MASKS = {
    "query": "query_mask",
    "key": "key_mask",
    "value": "key_mask",
    "query_landmarks": "landmark_mask",
    "key_landmarks": "landmark_mask",
}


def checked_operands(
    tensors: Sequence[Tensor],
    mixings: Sequence[HeadMixing | None],
    masks: Mapping[str, Tensor | None],
    *,
    scale: float | None,
) -> Operands:
    """What implementations take, made of what the public functions are called with.

    Args:
        tensors: query, key, value, query landmarks and key landmarks.
        mixings: of the query factor and of the key factor.
        masks: by the names `query_mask`, `key_mask` and `landmark_mask`.
        scale: the factor s of the logits; None for `1 / sqrt(D)`.

    Raises:
        ValueError: if shapes do not fit.
        TypeError: if dtypes or devices do not fit.
    """
    tensors = _as_autocast(*tensors)
    query_mixing, key_mixing = (HeadMixing() if mixing is None else mixing for mixing in mixings)
    query = tensors[0]
    _check_tensors(*tensors)
    _check_mixing({"query_mixing": query_mixing, "key_mixing": key_mixing}, query)
    masked = tuple(zip(_MASKS.values(), tensors, strict=True))
    for mask, x in masked:
        check_mask(mask, masks[mask], x, tokens=x.shape[2])
    q, k, v, ql, kl = (zero_outside(masks[mask], x) for mask, x in masked)
    return Operands(
        q,
        k,
        v,
        ql,
        kl,
        p_query=query_mixing.logits,
        w_query=query_mixing.weights,
        p_key=key_mixing.logits,
        w_key=key_mixing.weights,
        key_mask=masks["key_mask"],
        landmark_mask=masks["landmark_mask"],
        scale=1 / math.sqrt(query.shape[-1]) if scale is None else scale,
    )


def _as_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    device = tensors[0].device.type
    if not autocast_exists(device) or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(x.to(dtype) if x.is_floating_point() and x.dtype != torch.float64 else x for x in tensors)


def _check_tensors(
    query: Tensor, key: Tensor, value: Tensor, query_landmarks: Tensor, key_landmarks: Tensor
) -> None:
    for name, x in zip(_MASKS, (query, key, value, query_landmarks, key_landmarks), strict=True):
        refuse_nested(name, x, mask=_MASKS[name])
        if x.ndim != 4:
            raise ValueError(
                f"{name} must have the four axes (batch, heads, tokens, head dim); got {tuple(x.shape)}: "
                "split the heads with x.unflatten(-1, (heads, -1)).transpose(1, 2)"
            )
        if not x.is_floating_point():
            raise TypeError(f"{name} must be floating point; got {x.dtype}")
        if x.dtype != query.dtype:
            raise TypeError(
                f"{name} must have the dtype of query, {query.dtype}; got {x.dtype}: convert one of them"
            )
        if x.device != query.device:
            raise TypeError(
                f"{name} must be on the device of query, {query.device}; got {x.device}: move one of them"
            )
        if x.shape[:2] != query.shape[:2]:
            raise ValueError(
                f"{name} must have the batch and heads of query, {tuple(query.shape[:2])}; got "
                f"{tuple(x.shape[:2])}"
            )
        if name != "value" and x.shape[-1] != query.shape[-1]:
            raise ValueError(f"{name} must have the head dim of query, {query.shape[-1]}; got {x.shape[-1]}")
        if min(x.shape[1:]) < 1:
            raise ValueError(f"{name} must have at least one head, token and channel; got {tuple(x.shape)}")
    if value.shape[-2] != key.shape[-2]:
        raise ValueError(f"value must have the tokens of key, {key.shape[-2]}; got {value.shape[-2]}")
    if query_landmarks.shape[-2] != key_landmarks.shape[-2]:
        raise ValueError(
            f"query_landmarks and key_landmarks must be equally many; got {query_landmarks.shape[-2]} and "
            f"{key_landmarks.shape[-2]}: pool both with the same landmarks, at most min(landmarks, query "
            "axis, key axis)"
        )


def _check_mixing(mixings: Mapping[str, HeadMixing], query: Tensor) -> None:
    heads, group = query.shape[1], 0
    for name, mixing in mixings.items():
        if not isinstance(mixing, HeadMixing):
            raise TypeError(
                f"{name} must be a HeadMixing(logits=..., weights=...); got {type(mixing).__name__}"
            )
        for part, matrix in zip(mixing._fields, mixing, strict=True):
            if matrix is None:
                continue
            shape = tuple(matrix.shape)
            size = shape[-1] if matrix.ndim in (2, 3) else 0
            if size < 1 or shape not in ((heads, heads), (heads // size, size, size)) or heads % size:
                raise ValueError(
                    f"{name}.{part} must be (heads, heads) = {(heads, heads)}, or (heads / K, K, K) where "
                    f"groups of K heads talk; got {shape}"
                )
            if group not in (0, size):
                raise ValueError(
                    f"{name}.{part} must have groups of {group} heads, as the other matrices have; got {size}"
                )
            group = size
            if not matrix.is_floating_point():
                raise TypeError(f"{name}.{part} must be floating point; got {matrix.dtype}")
            if matrix.device != query.device:
                raise TypeError(
                    f"{name}.{part} must be on the device of query, {query.device}; got {matrix.device}"
                )
