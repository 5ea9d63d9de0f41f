"""Counts the floating-point operations of whatever runs, alike on every version of torch."""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_backward_flop_count, sdpa_flop_count


def flop_counter() -> FlopCounterMode:
    """torch's FLOP counter, silent, with the formulas that the running version of torch lacks.

    Returns:
        A context manager. Its `get_total_flops()` counts two operations for each multiply-add; its
        `flop_registry` holds the operators it knows.

    Example:
        >>> q = torch.zeros(1, 2, 10, 4)
        >>> with flop_counter() as counter:
        ...     y = torch.nn.functional.scaled_dot_product_attention(q, q, q)
        >>> counter.get_total_flops() == 2 * (2 * 2 * 10 * 10 * 4)
        True
    """
    missing = {name: formula for name, formula in _EXACT_ON_CPU.items() if name not in flop_registry}
    return FlopCounterMode(display=False, custom_mapping=missing)


def _forward(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _backward(
    grad: torch.Size, query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any
) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


# Exact attention on the CPU, which torch 2.14 and older count as nothing.
_EXACT_ON_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}
