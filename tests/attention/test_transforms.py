"""Transforms of torch, around and through the attention: right, or refused with the reason, never wrong.

`auto` is right under every one of them, whatever it chose: no kernel that is built and no size that streams
takes anything away. An operator that is asked for by name has one derivative, in reverse mode.
"""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo import compiled_autograd
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from crosshead import HeadMixing, InteractiveAttention, interactive_attention
from crosshead.attention import functional
from crosshead.attention.impl import fused
from crosshead.attention.impl.fused.cpu import build
from crosshead.testing.inputs import MASK_NAMES, MaskName, MixingMode, OperatorInputs, make_inputs
from crosshead.vision.ivit import IViT

Function = Callable[[Tensor], Tensor]
Impl = Literal["auto", "reference", "streamed", "fused"]

without_kernel = pytest.mark.skipif(
    build.missing() is not None, reason=f"the CPU kernel is not ready: {build.missing()}"
)
OPERATORS = ["streamed", pytest.param("fused", marks=without_kernel)]
# The kernel computes no float64.
DTYPES = {"streamed": torch.float64, "fused": torch.float32}
# Of the largest value: some thousand roundings.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-4}

every_operator = pytest.mark.parametrize("operator", OPERATORS)
every_call = pytest.mark.parametrize(
    ("mixing", "masks"), [("none", ()), ("both", MASK_NAMES)], ids=["plain", "mixed and masked"]
)


@pytest.fixture
def chosen(operator: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes `auto` choose this operator, whatever is built here and however small the call is."""
    monkeypatch.setattr(functional, "STREAMED_FROM", 1)
    if operator == "streamed":
        monkeypatch.setattr(fused, "PROVEN", ())
    return operator


def small_inputs(
    dtype: torch.dtype, *, mixing: MixingMode = "both", masks: tuple[MaskName, ...] = ()
) -> OperatorInputs:
    return make_inputs(
        heads=2,
        queries=3,
        keys=4,
        landmarks=2,
        head_dim=2,
        value_dim=1,
        mixing=mixing,
        masks=masks,
        dtype=dtype,
        requires_grad=False,
    )


def of_one_vector(inputs: OperatorInputs, impl: Impl) -> tuple[Function, Tensor]:
    """The attention as a function of all its operands, laid end to end, and where these stand."""
    shapes = {name: x.shape for name, x in inputs.floating().items()}

    def attend(vector: Tensor) -> Tensor:
        parts = vector.split([prod(shape) for shape in shapes.values()])
        operands = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        args, kwargs = replace(inputs, **operands).arguments()
        return interactive_attention(*args, **kwargs, impl=impl)

    return attend, torch.cat([x.flatten() for x in inputs.floating().values()])


def assert_alike(actual: Any, expected: Any) -> None:
    """Two results of one transform, of whatever tuples and lists of tensors."""
    for x, y in zip(tree_leaves(actual), tree_leaves(expected), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=TOLERANCES[y.dtype] * float(y.detach().abs().max()))


def loss(f: Function) -> Function:
    return lambda z: f(z).square().sum()


def checkpointed(f: Function, x: Tensor) -> Any:
    return checkpoint(f, x, use_reentrant=False)


def drawn(*shape: int, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(like.dtype)


def several(z: Tensor) -> Tensor:
    return torch.stack([z, 0.5 * z, z.flip(0)])


def tangent_of_dual_numbers(f: Function, z: Tensor) -> Tensor | None:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(z, drawn(*z.shape, like=z)))).tangent


def derivative_of_order(order: int) -> Callable[[Function, Tensor], Tensor]:
    def derive(f: Function, z: Tensor) -> Tensor:
        z = z.clone().requires_grad_()
        result = f(z)
        for step in range(order):
            (result,) = torch.autograd.grad(result.square().sum(), z, create_graph=step < order - 1)
        return result

    return derive


def penalised_gradient(f: Function, z: Tensor) -> Tensor:
    z = z.clone().requires_grad_()
    f(z).square().sum().backward(create_graph=True)
    assert z.grad is not None
    (result,) = torch.autograd.grad(z.grad.square().sum(), z)
    return result


def batched_gradients(f: Function, z: Tensor) -> Tensor:
    z = z.clone().requires_grad_()
    y = f(z)
    return torch.autograd.grad(y, z, drawn(3, *y.shape, like=y), is_grads_batched=True)[0]


def vmap_over_gradients(f: Function, z: Tensor) -> Tensor:
    z = z.clone().requires_grad_()
    y = f(z)
    return vmap(lambda upstream: torch.autograd.grad(y, z, upstream, retain_graph=True)[0])(
        drawn(3, *y.shape, like=y)
    )


TRANSFORMS: dict[str, Callable[[Function, Tensor], Any]] = {
    "grad": lambda f, z: grad(loss(f))(z),
    "vjp": lambda f, z: vjp(f, z)[1](f(z))[0],
    "jvp": lambda f, z: jvp(f, (z,), (drawn(*z.shape, like=z),)),
    "linearize": lambda f, z: linearize(f, z)[1](drawn(*z.shape, like=z)),
    "vmap": lambda f, z: vmap(f)(several(z)),
    "vmap of grad": lambda f, z: vmap(grad(loss(f)))(several(z)),
    "grad of vmap": lambda f, z: grad(lambda z: vmap(f)(several(z)).square().sum())(z),
    "vmap of jvp": lambda f, z: vmap(lambda z: jvp(f, (z,), (z,))[1])(several(z)),
    "jvp of vmap": lambda f, z: jvp(vmap(f), (several(z),), (drawn(3, *z.shape, like=z),)),
    "grad of grad": lambda f, z: grad(lambda z: grad(loss(f))(z).square().sum())(z),
    "grad of jvp": lambda f, z: grad(lambda z: jvp(f, (z,), (z,))[1].sum())(z),
    "jvp of grad": lambda f, z: jvp(grad(loss(f)), (z,), (drawn(*z.shape, like=z),)),
    "jacrev": lambda f, z: jacrev(f)(z),
    "jacfwd": lambda f, z: jacfwd(f)(z),
    "hessian": lambda f, z: hessian(loss(f))(z),
    "dual numbers": tangent_of_dual_numbers,
    "dual numbers that require a gradient": lambda f, z: tangent_of_dual_numbers(
        f, z.clone().requires_grad_()
    ),
    "autograd.functional.jvp": lambda f, z: torch.autograd.functional.jvp(f, z, drawn(*z.shape, like=z)),
    "autograd.functional.hvp": lambda f, z: torch.autograd.functional.hvp(
        loss(f), z, drawn(*z.shape, like=z)
    ),
    "autograd.functional.jacobian, vectorised": lambda f, z: torch.autograd.functional.jacobian(
        f, z, vectorize=True
    ),
    "autograd.functional.hessian, forward over reverse": lambda f, z: torch.autograd.functional.hessian(
        loss(f), z, vectorize=True, outer_jacobian_strategy="forward-mode"
    ),
    "second derivative": derivative_of_order(2),
    "third derivative": derivative_of_order(3),
    "backward(create_graph=True)": penalised_gradient,
    "batched gradients": batched_gradients,
    "vmap over autograd.grad": vmap_over_gradients,
}
every_transform = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())


@every_operator
@every_transform
@every_call
def test_auto_does_what_the_reference_does(chosen, transform, mixing, masks):
    inputs = small_inputs(DTYPES[chosen], mixing=mixing, masks=masks)
    actual = transform(*of_one_vector(inputs, "auto"))
    expected = transform(*of_one_vector(inputs, "reference"))
    assert_alike(actual, expected)


@every_operator
@every_transform
def test_an_operator_that_was_asked_for_refuses_and_names_the_way_out(operator, transform):
    f, z = of_one_vector(small_inputs(DTYPES[operator]), operator)
    with pytest.raises(NotImplementedError, match=f"(?s)impl='{operator}'.*cannot.*impl='reference'"):
        transform(f, z)


@every_operator
@pytest.mark.parametrize("name", list(make_inputs().floating()))
def test_a_tangent_of_any_operand_is_seen(chosen, name):
    inputs = small_inputs(DTYPES[chosen])

    def attend(x: Tensor, impl: Impl) -> Tensor:
        args, kwargs = replace(inputs, **{name: x}).arguments()
        return interactive_attention(*args, **kwargs, impl=impl)

    x = inputs.floating()[name]
    tangent = drawn(*x.shape, like=x)
    for transform in (
        lambda f: jvp(f, (x,), (tangent,))[1],
        lambda f: tangent_of_dual_numbers(f, x),
    ):
        expected = transform(lambda x: attend(x, "reference"))
        assert expected is not None
        actual = transform(lambda x: attend(x, "auto"))
        assert expected.any()
        assert_alike(actual, expected)
        with pytest.raises(NotImplementedError, match=f"impl='{chosen}'.*forward mode.*impl='reference'"):
            transform(lambda x: attend(x, chosen))


@every_operator
def test_operators_called_directly_refuse_tangents_too(operator):
    inputs = small_inputs(DTYPES[operator])
    args, kwargs = inputs.arguments()
    matrices = (*(kwargs["query_mixing"] or HeadMixing()), *(kwargs["key_mixing"] or HeadMixing()))
    name, options = {
        "streamed": ("streamed", (0.4, None)),
        "fused": ("fused_attention_cpu", (0.4,)),
    }[operator]
    forward, backward = (getattr(torch.ops.crosshead, each) for each in (name, f"{name}_backward"))
    call = [*args, kwargs["query_landmarks"], kwargs["key_landmarks"], *matrices, None, None, *options]
    output, *kept = forward(*call)
    for compute in (
        lambda v: forward(*call[:2], v, *call[3:])[0],
        lambda v: backward(torch.ones_like(output), *call[:2], v, *call[3:], *kept)[0],
    ):
        with pytest.raises(NotImplementedError, match="forward mode"):
            jvp(compute, (args[2],), (args[2],))
        with pytest.raises(NotImplementedError, match="forward mode"):
            tangent_of_dual_numbers(compute, args[2])


@every_operator
def test_an_operator_serves_beside_a_transform_that_does_not_concern_it(operator):
    attend, z = of_one_vector(small_inputs(DTYPES[operator]), operator)
    expected = attend(z)
    weights = torch.full_like(expected, 2.0)
    results = [
        grad(lambda w: (w * attend(z)).sum())(weights),
        jvp(lambda w: w * attend(z), (weights,), (torch.ones_like(weights),))[1],
        vmap(lambda w: w * attend(z))(weights[None])[0] / 2,
    ]
    for result in results:
        torch.testing.assert_close(result, expected)


@every_operator
def test_auto_keeps_to_its_operator_where_that_can_serve(chosen, monkeypatch):
    attend, z = of_one_vector(small_inputs(DTYPES[chosen]), "auto")

    def refuse(*_: object) -> Tensor:
        raise AssertionError("the reference ran")

    monkeypatch.setattr(functional.reference, "attention", refuse)
    with forward_ad.dual_level():  # open, and none of the operands is a dual number
        assert attend(z).isfinite().all()
    z.requires_grad_()
    loss(attend)(z).backward()
    loss(lambda z: checkpointed(attend, z))(z).backward()
    assert z.grad is not None
    assert z.grad.any()
    with pytest.raises(AssertionError, match="the reference ran"):
        derivative_of_order(2)(attend, z)


@every_call
@pytest.mark.parametrize("operator", ["streamed"])
def test_numerical_derivatives_agree(chosen, mixing, masks):
    attend, z = of_one_vector(small_inputs(torch.float64, mixing=mixing, masks=masks), "auto")
    z.requires_grad_()
    every_mode = {
        "check_forward_ad": True,
        "check_batched_grad": True,
        "check_batched_forward_grad": True,
    }
    assert gradcheck(attend, (z,), fast_mode=True, **every_mode)
    assert gradgradcheck(attend, (z,), fast_mode=True, check_fwd_over_rev=True, check_batched_grad=True)


def make_layer(dtype: torch.dtype, **options: Any) -> InteractiveAttention:
    torch.manual_seed(0)
    # With norms the landmarks stem from the operator's own queries and keys.
    layer = InteractiveAttention(4, 2, landmarks=(2,), qk_norm=True, dtype=dtype, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return layer


def in_parameters(module: nn.Module, x: Tensor, **call: Any) -> tuple[Function, Tensor]:
    """The module as a function of all its parameters, laid end to end, and where these stand."""
    shapes = {name: parameter.shape for name, parameter in module.named_parameters()}

    def run(vector: Tensor) -> Tensor:
        parts = vector.split([prod(shape) for shape in shapes.values()])
        named = zip(shapes.items(), parts, strict=True)
        state = {name: part.view(shape) for (name, shape), part in named}
        return functional_call(module, state, (x,), call)

    return run, torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


OF_A_LAYER = ("grad", "jvp", "vmap", "vmap of grad", "jacrev", "autograd.functional.hvp", "second derivative")


@every_operator
@pytest.mark.parametrize("name", OF_A_LAYER)
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_a_whole_layer_in_its_parameters_and_in_its_tokens(chosen, name, masked):
    dtype = DTYPES[chosen]
    x = drawn(2, 5, 4, like=torch.empty(0, dtype=dtype))
    mask = torch.tensor([[True, True, False, True, False], [True] * 5]) if masked else None
    results = []
    for impl in ("auto", "reference"):
        layer = make_layer(dtype, impl=impl)
        by_parameters = TRANSFORMS[name](*in_parameters(layer, x, key_mask=mask))
        by_tokens = TRANSFORMS[name](lambda x: layer(x.view(2, 5, 4), key_mask=mask), x.flatten())  # noqa: B023
        results.append([by_parameters, by_tokens])
    assert_alike(*results)


@every_operator
def test_a_checkpointed_layer_is_differentiated_twice(chosen):
    dtype = DTYPES[chosen]
    x = drawn(40, like=torch.empty(0, dtype=dtype))
    results = []
    for impl in ("auto", "reference"):
        layer = make_layer(dtype, impl=impl)
        results.append(derivative_of_order(2)(lambda x: checkpointed(layer, x.view(2, 5, 4)), x))  # noqa: B023
    assert_alike(*results)


@every_operator
@pytest.mark.parametrize("name", ["grad", "jvp", "autograd.functional.hvp"])
def test_a_whole_backbone(chosen, name):
    dtype = DTYPES[chosen]
    image = drawn(1, 3, 64, 64, like=torch.empty(0, dtype=dtype))
    results = []
    for impl in ("auto", "reference"):
        torch.manual_seed(0)
        model = IViT(
            num_classes=2,
            depths=(1, 1, 1, 1),
            dims=(4, 4, 8, 8),
            landmarks=2,
            head_dim=4,
            impl=impl,
            dtype=dtype,
        )
        results.append(TRANSFORMS[name](*in_parameters(model.eval(), image)))
    assert_alike(*results)


@every_operator
def test_transforms_inside_a_compiled_function(chosen):
    inputs = small_inputs(DTYPES[chosen])

    def transform(f: Function, z: Tensor) -> list[Tensor]:
        return [jvp(f, (z,), (2 * z,))[1], vmap(grad(loss(f)))(several(z))]

    attend, z = of_one_vector(inputs, "auto")
    torch.compiler.reset()
    compiled = torch.compile(lambda z: transform(attend, z), fullgraph=True, backend="aot_eager")
    assert_alike(compiled(z), transform(*of_one_vector(inputs, "reference")))
    torch.compiler.reset()


@pytest.mark.slow
def test_compiled_autograd_traces_the_backward_pass_of_an_operator():
    attend, z = of_one_vector(small_inputs(torch.float64), "streamed")
    z.requires_grad_()
    (expected,) = torch.autograd.grad(loss(attend)(z), z)
    torch.compiler.reset()
    compiler = torch.compile(backend="aot_eager", fullgraph=True)
    with compiled_autograd._enable(compiler):
        loss(attend)(z).backward()
    torch.compiler.reset()
    torch.testing.assert_close(z.grad, expected)
