from collections.abc import Callable
from math import prod

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from crosshead.rivals.layer import Projected, Rival

# The batch of a padded comparison: gaps, nothing masked, nothing left.
_SAMPLES = 3


def _as_after_training(layer: Rival) -> Rival:
    """In float64, with no parameter zero or one."""
    layer = layer.double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn(parameter.shape, dtype=torch.float64) * 0.3)
    return layer


def _masks(tokens: int) -> Tensor:
    valid = torch.rand(_SAMPLES, tokens) < 0.6
    valid[0, 0], valid[0, -1], valid[1], valid[2] = True, False, True, False
    return valid


@pytest.fixture
def assert_equal_to_formula() -> Callable[..., None]:
    """`(layer, formula, grid=, masked=)`: outputs and all gradients of a layer are those of a formula.

    The formula takes `(x, valid)`, `(B, N, C)` with zeros at masked tokens and bool `(B, N)`, and may return
    any finite number at masked tokens. A sample without tokens reaches it with all of them valid.
    """

    def check(
        layer: Rival, formula: Callable[[Tensor, Tensor], Tensor], *, grid: tuple[int, int], masked: bool
    ) -> None:
        torch.manual_seed(3)
        layer = _as_after_training(layer)
        tokens = prod(grid)
        x = torch.randn(_SAMPLES, tokens, layer.dim, dtype=torch.float64, requires_grad=True)
        key_mask = _masks(tokens) if masked else None
        valid = torch.ones(_SAMPLES, tokens, dtype=torch.bool) if key_mask is None else key_mask
        cotangent = torch.randn_like(x)

        def dense() -> Tensor:
            shown = valid | ~valid.any(1, keepdim=True)
            out = formula(torch.where(valid[..., None], x, 0.0), shown)
            return torch.where(valid[..., None], out, 0.0)

        results = []
        for out in (layer(x, grid=grid, key_mask=key_mask), dense()):
            gradients = torch.autograd.grad(out, [x, *layer.parameters()], cotangent, materialize_grads=True)
            names = ["x", *dict(layer.named_parameters())]
            results.append({"output": out, **dict(zip(names, gradients, strict=True))})
        torch.testing.assert_close(*results, rtol=1e-9, atol=1e-10)

    return check


@pytest.fixture
def between_projections() -> Callable[..., Callable[[Tensor, Tensor], Tensor]]:
    """`(layer, heads)`: the formula of a layer from one on heads, `(q, k, v, valid) -> (B, H, N, D)`."""

    def whole(layer: Projected, heads: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        def formula(x: Tensor, valid: Tensor) -> Tensor:
            parts = F.linear(x, layer.qkv.weight, layer.qkv.bias).split(layer.dim, dim=-1)
            q, k, v = (torch.stack(part.split(layer.head_dim, dim=-1), dim=1) for part in parts)
            out = heads(q, k, v, valid)
            return F.linear(torch.cat(list(out.unbind(1)), dim=-1), layer.proj.weight, layer.proj.bias)

        return formula

    return whole


@pytest.fixture
def depth_wise() -> Callable[..., Tensor]:
    """`(v, weight, grid, valid)`: values `(B, H, N, D)` summed over neighbours on the grid, tap by tap."""

    def convolve(v: Tensor, weight: Tensor, grid: tuple[int, int], valid: Tensor) -> Tensor:
        size = weight.shape[-1]
        filters = weight.reshape(*v.shape[1::2], size, size)
        out = []
        for i in range(prod(grid)):
            total = torch.zeros_like(v[:, :, 0])
            for j in range(prod(grid)):
                down = j // grid[1] - i // grid[1] + size // 2
                across = j % grid[1] - i % grid[1] + size // 2
                if 0 <= down < size and 0 <= across < size:
                    total = total + filters[:, :, down, across] * v[:, :, j] * valid[:, None, j, None]
            out.append(total)
        return torch.stack(out, dim=2)

    return convolve
