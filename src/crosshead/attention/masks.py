"""Masks over tokens: bool `(B, N)`, True = takes part."""

import torch
from torch import Tensor


def zero_outside(mask: Tensor | None, x: Tensor) -> Tensor:
    """`(B, ..., N, C)` with zeros at masked tokens, whatever stood there, NaN included."""
    return x if mask is None else x.masked_fill(~along_tokens(mask, x), 0)


def along_tokens(mask: Tensor, x: Tensor) -> Tensor:
    """The mask `(B, N)` as `(B, 1, ..., N, 1)`, broadcastable over `x`."""
    return mask.reshape(mask.shape[0], *([1] * (x.ndim - 3)), mask.shape[1], 1)


def check_mask(name: str, mask: Tensor | None, x: Tensor, *, tokens: int) -> None:
    """Refuses a mask that is not bool `(batch, tokens)` on the device of `x`, whose first axis is the batch.

    Raises:
        TypeError: if it is no tensor, or has another dtype or device.
        ValueError: if it has another shape.
    """
    if mask is None:
        return
    if not isinstance(mask, Tensor):
        raise TypeError(
            f"{name} must be a bool tensor (batch, tokens), True = takes part; got {type(mask).__name__}: "
            f"convert it with torch.as_tensor({name})"
        )
    if mask.dtype != torch.bool:
        raise TypeError(
            f"{name} must be bool, True = takes part; got {mask.dtype}: convert ones and zeros with "
            f"{name}.bool(), zeros and minus infinity with {name} == 0"
        )
    if tuple(mask.shape) != (x.shape[0], tokens):
        raise ValueError(f"{name} must be (batch, tokens) = {(x.shape[0], tokens)}; got {tuple(mask.shape)}")
    if mask.device != x.device:
        raise TypeError(f"{name} must be on {x.device} like its tokens; got {mask.device}: move one of them")
