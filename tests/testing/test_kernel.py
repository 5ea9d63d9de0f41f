"""The criterion for kernels is a judge: right ones pass, whatever the draw, and wrong ones do not."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from crosshead import interactive_attention
from crosshead.testing.inputs import make_inputs
from crosshead.testing.jitter import jittered_results
from crosshead.testing.kernel import Yardstick, assert_kernel_right, draw_inputs

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
reference = partial(interactive_attention, impl="reference")


def plain_attention(
    softmax: Callable[[Tensor], Tensor], q, k, v, *, query_landmarks, key_landmarks, scale, **_
):
    """The equations in float32 without mixing, with a softmax of one's choice."""
    f_q = softmax(scale * q @ key_landmarks.mT)
    return f_q @ (softmax(scale * query_landmarks @ k.mT) @ v)


def by_shift(x: Tensor) -> Tensor:
    powers = (x - x.amax(-1, keepdim=True)).exp()
    return powers * powers.sum(-1, keepdim=True).reciprocal()


def by_log_sum(x: Tensor) -> Tensor:
    return (x - x.logsumexp(-1, keepdim=True)).exp()


def without_normaliser_in_backward(x: Tensor) -> Tensor:
    powers = x.exp()
    return powers / powers.sum(-1, keepdim=True).detach()


@pytest.mark.parametrize("scale", [0.3, 4.0])
def test_a_softmax_by_shift_and_inverse_sum_passes(scale):
    draws = draw_inputs(queries=20, keys=150, head_dim=16, mixing="none", dtype=torch.float32)
    assert_kernel_right(draws, attention=partial(plain_attention, by_shift), scale=scale)


@pytest.mark.parametrize(("softmax", "scale"), [(by_log_sum, 4.0), (without_normaliser_in_backward, 0.3)])
def test_a_softmax_that_is_less_exact_or_lacks_a_term_fails(softmax, scale):
    draws = draw_inputs(queries=20, keys=150, head_dim=16, mixing="none", dtype=torch.float32)
    with pytest.raises(AssertionError, match="OUTSIDE"):
        assert_kernel_right(draws, attention=partial(plain_attention, softmax), scale=scale)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gradient_of_the_wrong_sign_fails(dtype):
    def wrong(q, k, v, **options):
        return reference(q, 2 * k.detach() - k, v, **options)

    with pytest.raises(AssertionError, match="grad key: OUTSIDE"):
        assert_kernel_right(draw_inputs(dtype=dtype), attention=wrong)


@pytest.mark.parametrize(("dtype", "too_large"), [(torch.float32, 3), (torch.bfloat16, 6)])
def test_errors_some_times_as_large_as_usual_fail(dtype, too_large):
    # The budget is twice the largest usual error, and a band that in bfloat16 is as large as an error.
    inputs = make_inputs(queries=60, keys=70, landmarks=9, head_dim=16, value_dim=16, dtype=dtype)
    yardstick = Yardstick([inputs])
    exact = yardstick.exact
    for seed in range(1000, 1006):
        (usual,) = jittered_results(inputs, runs=1, seed=seed)
        errors = {name: x.flatten() - exact[name] for name, x in usual.items()}
        yardstick.assert_within({name: (exact[name] + x).to(dtype) for name, x in errors.items()})
        with pytest.raises(AssertionError, match="OUTSIDE"):
            yardstick.assert_within({n: (exact[n] + too_large * x).to(dtype) for n, x in errors.items()})


def test_noise_around_exact_zeros_may_be_what_terms_cost_and_no_more():
    # One key without mixing: exact gradients of the key factor's logits are zero, in plain arithmetic too.
    inputs = make_inputs(keys=1, landmarks=16, mixing="none", dtype=torch.float32)

    def noisy(q, k, v, *, times: float, **options):
        noise = times * torch.finfo(k.dtype).eps * torch.randn(k.shape, generator=torch.manual_seed(0))
        output = reference(q, k, v, **options)
        return output + ((k - k.detach()) * noise).sum()

    assert_kernel_right([inputs], attention=partial(noisy, times=0.01))
    with pytest.raises(AssertionError, match="grad key: OUTSIDE"):
        assert_kernel_right([inputs], attention=partial(noisy, times=10.0))


def test_another_dtype_fails():
    with pytest.raises(AssertionError):
        assert_kernel_right(
            draw_inputs(dtype=torch.bfloat16), attention=lambda *a, **k: reference(*a, **k).float()
        )
