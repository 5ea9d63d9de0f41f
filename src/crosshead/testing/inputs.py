"""Seeded inputs for the attention operator, and one way to collect an output with all its gradients.

Legend: `B` batch, `H` heads, `N` queries, `M` keys, `L` landmarks, `D` head dim, `E` value head dim.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from crosshead.attention.mixing import HeadMixing, matrix_shape

MixingMode = Literal["none", "logits", "weights", "both"]
MaskName = Literal["query_mask", "key_mask", "landmark_mask"]
Layout = Literal["contiguous", "strided", "expanded"]

MIXING_MODES: tuple[MixingMode, ...] = get_args(MixingMode)
MASK_NAMES: tuple[MaskName, ...] = get_args(MaskName)
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


@dataclass(frozen=True, kw_only=True)
class OperatorInputs:
    """Every argument of one call of the operator, the mixing matrices by name to differentiate each."""

    query: Tensor
    key: Tensor
    value: Tensor
    query_landmarks: Tensor
    key_landmarks: Tensor
    query_logits: Tensor | None = None
    query_weights: Tensor | None = None
    key_logits: Tensor | None = None
    key_weights: Tensor | None = None
    query_mask: Tensor | None = None
    key_mask: Tensor | None = None
    landmark_mask: Tensor | None = None

    def floating(self) -> dict[str, Tensor]:
        """Those that have a gradient, by name, missing mixing matrices left out.

        Example:
            >>> list(make_inputs(mixing="logits").floating())[-2:]
            ['query_logits', 'key_logits']
        """
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: x for name, x in named.items() if x is not None and x.is_floating_point()}

    def arguments(self) -> tuple[tuple[Tensor, Tensor, Tensor], dict[str, Any]]:
        """The positional and keyword arguments of `crosshead.interactive_attention`.

        Example:
            >>> args, kwargs = make_inputs(mixing="none").arguments()
            >>> len(args), kwargs["query_mixing"]
            (3, None)
        """
        keywords = {
            "query_landmarks": self.query_landmarks,
            "key_landmarks": self.key_landmarks,
            "query_mixing": _mixing(self.query_logits, self.query_weights),
            "key_mixing": _mixing(self.key_logits, self.key_weights),
        }
        masks = {name: getattr(self, name) for name in MASK_NAMES}
        keywords.update((name, mask) for name, mask in masks.items() if mask is not None)
        return (self.query, self.key, self.value), keywords

    def to(self, target: torch.dtype | torch.device | str) -> "OperatorInputs":
        """The same numbers as new leaves in another dtype (masks stay bool) or on another device.

        Args:
            target: a floating dtype or a device.

        Example:
            >>> make_inputs().to(torch.float16).query.dtype
            torch.float16
        """
        leaves = {
            name: x.detach().to(target).requires_grad_(x.requires_grad) for name, x in self.floating().items()
        }
        if not isinstance(target, torch.dtype):
            masks = {name: getattr(self, name) for name in MASK_NAMES}
            leaves.update({name: mask.to(target) for name, mask in masks.items() if mask is not None})
        return replace(self, **leaves)


def make_inputs(
    *,
    batch: int = 2,
    heads: int = 3,
    queries: int = 7,
    keys: int = 9,
    landmarks: int = 4,
    head_dim: int = 5,
    value_dim: int = 6,
    mixing: MixingMode = "both",
    group_size: int | None = None,
    masks: Iterable[MaskName] = (),
    layout: Layout = "contiguous",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    requires_grad: bool = True,
    seed: int = 0,
) -> OperatorInputs:
    """Draws operator inputs; the same arguments give the same numbers, rounded to the dtype.

    Args:
        batch: `B`.
        heads: `H`.
        queries: `N`.
        keys: `M`.
        landmarks: `L`.
        head_dim: `D`.
        value_dim: `E`.
        mixing: which of the residual matrices exist; small against the identity, as trained ones are.
        group_size: heads that talk to each other, all by default.
        masks: which masks exist. The first place is always valid and the last of the first sample never, if
            there are two; the last of several samples is whole.
        layout: `strided` gives transposed views as a fused projection does, `expanded` one sample and one
            head repeated by stride 0.
        dtype: dtype of the tensors.
        device: device of the tensors.
        requires_grad: whether the floating tensors are leaves that ask for a gradient.
        seed: seed of a generator of its own.

    Returns:
        The inputs.

    Example:
        >>> make_inputs(batch=1, heads=2, queries=8, head_dim=4).query.shape
        torch.Size([1, 2, 8, 4])
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64) * scale

    def lay(rows: int, dim: int) -> Tensor:
        if layout == "strided":
            # (B, rows, H, dim) as it comes out of a fused projection, seen through a transpose.
            return draw(batch, rows, heads, dim).to(device, dtype).transpose(1, 2)
        if layout == "expanded":
            return draw(1, 1, rows, dim).to(device, dtype).expand(batch, heads, rows, dim)
        return draw(batch, heads, rows, dim).to(device, dtype)

    def mixing_matrix() -> Tensor:
        size = group_size or heads
        return draw(*matrix_shape(heads, size), scale=0.5 * size**-0.5).to(device, dtype)

    tensors: dict[str, Tensor] = {
        "query": lay(queries, head_dim),
        "key": lay(keys, head_dim),
        "value": lay(keys, value_dim),
        "query_landmarks": lay(landmarks, head_dim),
        "key_landmarks": lay(landmarks, head_dim),
    }
    for place in ("logits", "weights"):
        if mixing in (place, "both"):
            tensors |= {f"{factor}_{place}": mixing_matrix() for factor in ("query", "key")}
    for tensor in tensors.values():
        tensor.requires_grad_(requires_grad)
    lengths = {"query_mask": queries, "key_mask": keys, "landmark_mask": landmarks}
    for name in masks:
        mask = torch.rand(batch, lengths[name], generator=generator) < 0.6
        mask[:, -1:], mask[:, :1], mask[1:][-1:] = False, True, True
        tensors[name] = mask.to(device)
    return OperatorInputs(**tensors)


def output_and_gradients(
    attention: Callable[..., Tensor],
    inputs: OperatorInputs,
    *,
    seed: int = 1,
    reverse: Sequence[int] = (),
    **options: Any,
) -> dict[str, Tensor]:
    """Runs an implementation forward and backward under a fixed cotangent.

    Args:
        attention: a function with the signature of `crosshead.interactive_attention`.
        inputs: its arguments; those that require a gradient get one.
        seed: seed of the cotangent, drawn in float64 and rounded.
        reverse: axes, of tokens (2) or of channels (3), along which operands go in back to front and results
            come out again: the same result by another order of summation.
        **options: passed on, `impl="streamed"` for instance.

    Returns:
        `output`, and for every input that requires it `grad NAME`.

    Example:
        >>> from crosshead.testing.oracle import dense_attention
        >>> list(output_and_gradients(dense_attention, make_inputs(mixing="none")))[:3]
        ['output', 'grad query', 'grad key']
    """

    def turn(x: Tensor) -> Tensor:
        return x.flip(tuple(reverse)) if reverse and x.ndim == 4 else x

    turned = {name: turn(x) for name, x in inputs.floating().items()}
    if 2 in reverse:
        masks = {name: getattr(inputs, name) for name in MASK_NAMES}
        turned |= {name: mask.flip(1) for name, mask in masks.items() if mask is not None}
    args, kwargs = replace(inputs, **turned).arguments()
    output = turn(attention(*args, **kwargs, **options))
    wanted = {name: x for name, x in inputs.floating().items() if x.requires_grad}
    if not wanted:
        return {"output": output}
    if output.requires_grad:
        cotangent = draw_cotangent(output.shape, seed=seed).to(output)
        gradients = torch.autograd.grad(
            output, list(wanted.values()), cotangent, allow_unused=True, materialize_grads=True
        )
    else:  # nothing takes part, and the oracle has not looked at its inputs
        gradients = [torch.zeros_like(x) for x in wanted.values()]
    named = {f"grad {name}": gradient for name, gradient in zip(wanted, gradients, strict=True)}
    return {"output": output.detach(), **named}


def draw_cotangent(shape: Sequence[int], *, seed: int = 1) -> Tensor:
    """Normal numbers in sixteenths, which every dtype holds, as float64.

    Were it rounded to the dtype under test, its error would count as one of each implementation.

    Args:
        shape: shape of an output.
        seed: seed of a generator of its own.

    Example:
        >>> x = draw_cotangent((2, 3))
        >>> torch.equal(x.bfloat16().double(), x)
        True
    """
    generator = torch.Generator().manual_seed(seed)
    return (16 * torch.randn(shape, generator=generator, dtype=torch.float64)).round() / 16


def _mixing(logits: Tensor | None, weights: Tensor | None) -> HeadMixing | None:
    return None if logits is None and weights is None else HeadMixing(logits=logits, weights=weights)
