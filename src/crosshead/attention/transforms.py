"""Which transforms of torch are at work: an operator with a backward pass of its own cannot follow them all.

torch tells this through a few private names only, which have long stood. Should one of them go, `auto` no
longer falls back there, and what refuses or raises in the operators remains.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.autograd import forward_ad

_torch_func_is_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
_is_legacy_batched = getattr(
    getattr(torch._C, "_functorch", None), "is_legacy_batchedtensor", lambda _: False
)


def under_export() -> bool:
    """Whether `torch.export` is tracing."""
    # At torch 2.11 torch.compile takes `is_exporting()` for True; the flag behind it is right.
    return getattr(torch.compiler, "_is_exporting_flag", torch.compiler.is_exporting())


def under_torch_func() -> bool:
    """Whether a transform of `torch.func` is running: grad, vjp, jvp, vmap or what is built of them."""
    return _torch_func_is_active()


def carry_tangents(tensors: Iterable[object]) -> bool:
    """Whether one of the tensors carries a tangent: forward-mode differentiation, `torch.func.jvp`."""
    # Nearly always no level is open, and then nothing can carry a tangent.
    return getattr(forward_ad, "_current_level", 0) >= 0 and any(
        isinstance(x, Tensor) and forward_ad.unpack_dual(x).tangent is not None for x in tensors
    )


def is_batched_gradient(gradient: Tensor) -> bool:
    """Whether `torch.autograd.grad(..., is_grads_batched=True)` or a vectorised Jacobian brought it."""
    # Compiled autograd traces backward passes, and cannot trace this question; it batches nothing.
    return not torch.compiler.is_compiling() and _is_legacy_batched(gradient)
