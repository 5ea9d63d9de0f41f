"""Exact attention costs its two products, whichever kernel torch takes and whatever it knows of it."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from crosshead.measure.flops import flop_counter

BATCH, HEADS, TOKENS, KEYS, DIM = 2, 3, 20, 30, 8
FORWARD = 2 * 2 * BATCH * HEADS * TOKENS * KEYS * DIM


@pytest.mark.parametrize("backend", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
def test_exact_attention_is_counted_forward_and_backward(backend):
    q, k = torch.randn(BATCH, HEADS, TOKENS, DIM), torch.randn(BATCH, HEADS, KEYS, DIM)
    q.requires_grad_(), k.requires_grad_()
    with sdpa_kernel(backend):
        with flop_counter() as forward:
            y = scaled_dot_product_attention(q, k, k)
        with flop_counter() as backward:
            y.sum().backward()
    assert forward.get_total_flops() == FORWARD
    # The flash kernel computes the logits again: five products to the forward pass's two.
    again = FORWARD // 2 if backend == SDPBackend.FLASH_ATTENTION else 0
    assert backward.get_total_flops() == 2 * FORWARD + again


def test_what_torch_counts_itself_is_counted_once():
    with flop_counter() as counter:
        torch.zeros(3, 4) @ torch.zeros(4, 5)
    assert counter.get_total_flops() == 2 * 3 * 4 * 5
