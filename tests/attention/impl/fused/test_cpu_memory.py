"""What a call of the CPU's kernel holds, keeps and hands out."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from crosshead import interactive_attention
from crosshead.attention.impl.fused.cpu import build
from crosshead.testing.inputs import MASK_NAMES, make_inputs
from crosshead.testing.memory import peak_allocated_bytes

pytestmark = pytest.mark.skipif(
    build.missing() is not None, reason=f"the CPU kernel is not ready: {build.missing()}"
)

attend = partial(interactive_attention, impl="fused")
every_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
SHORT, LONG = 2048, 8192
HEADS, LANDMARKS = 2, 32


def peak_beyond_results(tokens: int, *, backward: bool, dtype: torch.dtype, impl: str = "fused") -> int:
    """Bytes at the high-water mark, less what the caller gets: output and gradients."""
    sizes: dict[str, Any] = {
        "batch": 1,
        "heads": HEADS,
        "queries": tokens,
        "keys": tokens,
        "landmarks": LANDMARKS,
    }
    inputs = make_inputs(**sizes, head_dim=8, value_dim=8, dtype=dtype, requires_grad=backward)
    args, kwargs = inputs.arguments()
    cotangent = torch.ones(1, HEADS, tokens, 8, dtype=dtype)

    def compute():
        output = interactive_attention(*args, **kwargs, impl=impl)  # type: ignore[arg-type]
        wanted = list(inputs.floating().values())
        return output, torch.autograd.grad(output, wanted, cotangent) if backward else ()

    output, gradients = compute()
    return peak_allocated_bytes(compute) - sum(x.nbytes for x in (output, *gradients))


@every_precision
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward and backward"])
def test_memory_beyond_inputs_outputs_and_gradients_is_flat_in_tokens(backward, dtype):
    short, long = (peak_beyond_results(tokens, backward=backward, dtype=dtype) for tokens in (SHORT, LONG))
    assert 0 < long <= 1.02 * short
    factor = HEADS * LANDMARKS * LONG * 4
    assert long < factor / 2
    # The measurement sees factors where there are some.
    assert peak_beyond_results(LONG, backward=backward, dtype=dtype, impl="reference") > factor


@pytest.mark.parametrize("masks", [(), MASK_NAMES], ids=["whole", "masked"])
def test_nothing_is_kept_for_backward_but_inputs_and_what_is_independent_of_tokens(masks):
    inputs = make_inputs(queries=512, keys=1024, masks=masks, dtype=torch.float32)
    args, kwargs = inputs.arguments()
    own = {x.data_ptr() for x in inputs.floating().values()}
    kept = []

    def record(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(record, lambda x: x):
        attend(*args, **kwargs)
    shapes = {tuple(x.shape) for x in kept if x.data_ptr() not in own and x.is_floating_point()}
    copies = {tuple(x.shape) for x in args} if masks else set()  # inputs with zeros at masked places
    landmarks = {(2, 3, 4, 5), (2, 3, 4, 6), (2, 2, 3, 4)}
    assert shapes - landmarks <= copies


def test_the_output_belongs_to_the_caller():
    args, kwargs = make_inputs(dtype=torch.float32, requires_grad=False).arguments()
    before = [x.clone() for x in args]
    output = attend(*args, **kwargs)
    output.zero_()
    for x, then in zip(args, before, strict=True):
        assert torch.equal(x, then)
    assert attend(*args, **kwargs).any()
