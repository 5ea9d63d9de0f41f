"""The arithmetic that every implementation shares, whatever the dtype of its inputs."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

# In float16 the key factor, whose weights are near 1/M, is held this many times larger, or a sequence of some
# ten thousand keys would lose its weights to subnormal numbers. A power of two, so that scaling is exact; a
# fixed one, because a weight near one, times a power near M, would overflow from M = 65,536 on.
FLOAT16_KEY_SCALE = 4096.0

# What masked logits become: finite, so that a row with nothing left to look at becomes zeros and never NaN.
MASKED_LOGIT = -1e30


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of softmax and sums: float64 for float64, float32 for everything else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def key_scale(dtype: torch.dtype) -> float:
    """The power of two by which the key factor is held larger in `dtype`."""
    return FLOAT16_KEY_SCALE if dtype == torch.float16 else 1.0


# The kinds of device that autocast knows ("meta" is none), asked once: torch 2.11 cannot trace the question.
_KINDS = ("cpu", "cuda", "mps", "xpu", "hpu", "mtia", "xla")
_AUTOCAST_DEVICES = frozenset(kind for kind in _KINDS if torch.amp.is_autocast_available(kind))


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` in that dtype. Where it is so already, tracers find no step to record, and exports stay short."""
    return x if x.dtype == dtype else x.to(dtype)


def autocast_exists(device: str) -> bool:
    """Whether autocast knows a kind of device."""
    return device in _AUTOCAST_DEVICES


def without_autocast(x: Tensor) -> AbstractContextManager:
    """A region in which autocast leaves the chosen dtypes alone.

    There is none where autocast is off: to an export each region is a graph of its own, and those are slow.
    """
    device = x.device.type
    if not autocast_exists(device) or not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)
