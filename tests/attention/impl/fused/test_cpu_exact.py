"""The CPU's kernel where there is nothing to round: the same bits, the same zeros, the same NaN."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor

from crosshead import interactive_attention
from crosshead.attention.impl.fused.cpu import build
from crosshead.testing.inputs import (
    MASK_NAMES,
    OperatorInputs,
    draw_cotangent,
    make_inputs,
    output_and_gradients,
)

pytestmark = pytest.mark.skipif(
    build.missing() is not None, reason=f"the CPU kernel is not ready: {build.missing()}"
)

attend = partial(interactive_attention, impl="fused")
every_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
MATRICES = ("query_logits", "query_weights", "key_logits", "key_weights")
OPERANDS = ("query", "key", "value", "query_landmarks", "key_landmarks")


def leaves(inputs: OperatorInputs, **changes: Tensor) -> OperatorInputs:
    """The inputs with other operands, which ask for a gradient."""
    return replace(inputs, **{name: x.detach().requires_grad_() for name, x in changes.items()})


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@every_precision
def test_nan_at_masked_places_changes_nothing(dtype):
    inputs = make_inputs(batch=3, queries=40, keys=50, masks=MASK_NAMES, dtype=dtype)
    masks = [inputs.query_mask, inputs.key_mask, inputs.key_mask, inputs.landmark_mask, inputs.landmark_mask]
    poisoned = {}
    for name, mask in zip(OPERANDS, masks, strict=True):
        assert mask is not None
        poisoned[name] = getattr(inputs, name).masked_fill(~mask[:, None, :, None], float("nan"))
    assert_equal(
        output_and_gradients(attend, leaves(inputs, **poisoned)), output_and_gradients(attend, inputs)
    )


@every_precision
@pytest.mark.parametrize("place", ["query", "key", "value", "query_landmarks", "key_landmarks"])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_nan_at_valid_places_is_not_hidden(place, poison, dtype):
    # A run that diverges must be seen to diverge: finite numbers from such operands would let it go on.
    inputs = make_inputs(queries=40, keys=50, dtype=dtype, requires_grad=False)
    getattr(inputs, place)[1, 2, 3] = poison
    args, kwargs = inputs.arguments()
    expected = interactive_attention(*args, **kwargs, impl="reference").isfinite()
    assert not expected.all()
    hidden = attend(*args, **kwargs).isfinite() & ~expected
    assert hidden.sum().item() == 0


def test_logits_of_any_size_come_to_an_end():
    # In a process of its own, since nothing can interrupt a kernel that does not return.
    code = """
import torch
from crosshead.attention.functional import interactive_attention
from crosshead.testing.inputs import make_inputs
torch.set_num_threads(1)
for size in (1e5, 1e9, 1e10, 1e12, 1e20):
    for mixing in ("none", "logits"):
        inputs = make_inputs(keys=70, mixing=mixing, dtype=torch.float32, requires_grad=False)
        inputs.key.mul_(size)
        args, kwargs = inputs.arguments()
        print(interactive_attention(*args, **kwargs, impl="fused").isfinite().all().item(), flush=True)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ended.stdout.split() == ["True"] * 10, ended.stderr


@every_precision
def test_no_samples_at_all(dtype):
    inputs = make_inputs(batch=0, masks=MASK_NAMES, dtype=dtype)
    for name, x in output_and_gradients(attend, inputs).items():
        shape = inputs.query.shape[:3] + inputs.value.shape[3:]
        assert x.shape == (shape if name == "output" else inputs.floating()[name.removeprefix("grad ")].shape)
        assert not x.any()


@every_precision
def test_a_gradient_that_repeats_by_stride_zero(dtype):
    inputs = make_inputs(queries=37, keys=51, dtype=dtype)
    args, kwargs = inputs.arguments()
    wanted = list(inputs.floating().values())
    summed = torch.autograd.grad(attend(*args, **kwargs).sum(), wanted)
    output = attend(*args, **kwargs)
    for one, other in zip(summed, torch.autograd.grad(output, wanted, torch.ones_like(output)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("dtype", "of_mixing"),
    list(product([torch.float32, torch.bfloat16], [torch.float32, torch.bfloat16, torch.float64])),
)
def test_mixing_matrices_of_another_dtype_and_layout(dtype, of_mixing):
    inputs = make_inputs(queries=37, keys=51, dtype=dtype)
    matrices = {name: getattr(inputs, name).to(of_mixing) for name in MATRICES}
    turned = leaves(inputs, **{name: x.T.contiguous().T for name, x in matrices.items()})
    actual = output_and_gradients(attend, turned)
    expected = output_and_gradients(attend, leaves(inputs, **{n: x.to(dtype) for n, x in matrices.items()}))
    assert actual["output"].dtype == dtype
    if of_mixing != torch.bfloat16 or dtype == torch.bfloat16:
        torch.testing.assert_close(actual["output"], expected["output"], rtol=0, atol=0)
    for name in MATRICES:
        gradient = actual[f"grad {name}"]
        assert gradient.dtype == of_mixing
        narrow = torch.bfloat16 if torch.bfloat16 in (dtype, of_mixing) else torch.float32
        torch.testing.assert_close(
            gradient.to(narrow), expected[f"grad {name}"].to(narrow), rtol=0, atol=0, msg=name
        )


def test_factors_are_rounded_as_the_reference_rounds_them():
    # Where one rounded and the other did not, about half of the outputs would end on another number.
    args, kwargs = make_inputs(
        queries=150, keys=170, landmarks=8, head_dim=16, dtype=torch.bfloat16
    ).arguments()
    fused, plain = (interactive_attention(*args, **kwargs, impl=i) for i in ("fused", "reference"))
    assert (fused == plain).double().mean() > 0.95


@every_precision
@pytest.mark.parametrize("masks", [(), MASK_NAMES], ids=["whole", "masked"])
def test_a_sample_gives_the_same_bits_alone_and_in_a_batch(masks, dtype):
    inputs = make_inputs(batch=3, queries=300, keys=333, masks=masks, dtype=dtype)
    together = output_and_gradients(attend, inputs)
    cotangents = draw_cotangent((3, 3, 300, 6))
    for b in range(3):
        samples = {name: getattr(inputs, name)[b : b + 1] for name in OPERANDS}
        masked = {name: getattr(inputs, name)[b : b + 1] for name in masks}
        alone = replace(leaves(inputs, **samples), **masked)
        args, kwargs = alone.arguments()
        output = attend(*args, **kwargs)
        wanted = [getattr(alone, name) for name in OPERANDS]
        gradients = torch.autograd.grad(output, wanted, cotangents[b : b + 1].to(dtype))
        for name, x in zip(["output", *(f"grad {n}" for n in OPERANDS)], [output, *gradients], strict=True):
            assert torch.equal(x[0], together[name][b]), name
