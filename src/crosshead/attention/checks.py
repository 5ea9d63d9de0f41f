"""What the operator refuses, and the words in which it does."""

from typing import NoReturn

from torch import Tensor

from crosshead.attention.masks import check_mask
from crosshead.attention.mixing import HeadMixing


def refuse_dense_maps(*, attn_mask: object = None, is_causal: bool = False, attn_drop: float = 0.0) -> None:
    """Refuses what only makes sense on an N x M attention map, which this attention never forms.

    Raises:
        NotImplementedError: any of the three is asked for.
    """
    if attn_mask is not None:
        raise NotImplementedError(
            f"attn_mask must be None; got {type(attn_mask).__name__}: attention through landmarks never "
            "forms the N x M map that such a mask would act on. Leave out tokens with key_mask and query_mask"
        )
    if is_causal:
        raise NotImplementedError(
            "is_causal must be False; got True: a landmark averages tokens from the whole sequence, so "
            "earlier tokens would see later ones. Use exact causal attention"
        )
    if attn_drop:
        raise NotImplementedError(
            f"attn_drop must be 0; got {attn_drop}: dropout on the two factors is not dropout on their "
            "product. Use proj_drop or stochastic depth"
        )


def refuse_torchscript(module: object) -> NoReturn:
    """Refuses `torch.jit.script`, in a module's `__prepare_scriptable__`, which it asks first.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        f"torch.jit.script cannot compile {type(module).__name__}: TorchScript has no types for its grids, "
        "masks and modules as arguments. Use torch.export.export, or torch.jit.trace"
    )


def refuse_nested(name: str, x: Tensor, *, mask: str) -> None:
    """Refuses a nested tensor: tokens are one tensor, padded, with a mask.

    Raises:
        TypeError: if `x` is nested.
    """
    if x.is_nested:
        raise TypeError(
            f"{name} must be one padded tensor; got a nested tensor: pad it with "
            f"torch.nested.to_padded_tensor({name}, 0.0), and say with {mask} which tokens take part"
        )


def check_projected(projected: Tensor, width: int) -> Tensor:
    """What a projection gave, refused where it has not `width` channels.

    Raises:
        ValueError: if it has fewer or more.
    """
    if projected.shape[-1] != width:
        raise ValueError(
            f"qkv must give queries, keys and values of all heads, {width} channels; got "
            f"{projected.shape[-1]}: where it is split over devices, let it give the whole, as "
            "ColwiseParallel(output_layouts=Replicate()) does"
        )
    return projected


def check_operands(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_landmarks: Tensor,
    key_landmarks: Tensor,
    query_mixing: HeadMixing,
    key_mixing: HeadMixing,
    *,
    query_mask: Tensor | None,
    key_mask: Tensor | None,
    landmark_mask: Tensor | None,
) -> None:
    """Refuses operands that do not belong together.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: dtypes or devices that do not fit.
    """
    operands = {
        "query": query,
        "key": key,
        "value": value,
        "query_landmarks": query_landmarks,
        "key_landmarks": key_landmarks,
    }
    masked_by = {"query": "query_mask", "key": "key_mask", "value": "key_mask"}
    for name, x in operands.items():
        refuse_nested(name, x, mask=masked_by.get(name, "landmark_mask"))
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
    _check_mixing("query_mixing", query_mixing, query)
    _check_mixing("key_mixing", key_mixing, query)
    check_mask("query_mask", query_mask, query, tokens=query.shape[2])
    check_mask("key_mask", key_mask, key, tokens=key.shape[2])
    check_mask("landmark_mask", landmark_mask, key_landmarks, tokens=key_landmarks.shape[2])


def _check_mixing(name: str, mixing: HeadMixing, query: Tensor) -> None:
    heads = query.shape[1]
    if not isinstance(mixing, HeadMixing):
        raise TypeError(f"{name} must be a HeadMixing(logits=..., weights=...); got {type(mixing).__name__}")
    for part, matrix in zip(mixing._fields, mixing, strict=True):
        if matrix is None:
            continue
        if tuple(matrix.shape) != (heads, heads):
            raise ValueError(
                f"{name}.{part} must be (heads, heads) = {(heads, heads)}; got {tuple(matrix.shape)}"
            )
        if not matrix.is_floating_point():
            raise TypeError(f"{name}.{part} must be floating point; got {matrix.dtype}")
        if matrix.device != query.device:
            raise TypeError(
                f"{name}.{part} must be on the device of query, {query.device}; got {matrix.device}"
            )
