"""Layers whose tokens are shared out to ranks, and the same on one process, for `sharded_ranks.py`."""

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from itertools import accumulate
from math import inf, prod
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.utils.checkpoint import checkpoint

from crosshead import InteractiveAttention

DIM, HEADS, BATCH = 16, 4, 3
IMPLEMENTATIONS = ("reference", "streamed")
Results = dict[str, Tensor]
Compute = Callable[..., Results]


class Case(NamedTuple):
    """One call of a layer; a mask is named by how much of it is valid."""

    grid: tuple[int, ...]
    landmarks: int | tuple[int, ...]
    layer: Mapping[str, Any] = MappingProxyType({})
    context_grid: tuple[int, ...] | None = None
    mask: float | None = None
    context_mask: float | None = None


CASES = {
    **{
        f"mixing {mixing}": Case((7, 5), (3, 2), {"mixing": mixing})
        for mixing in ("none", "logits", "weights", "both")
    },
    "groups of heads": Case((7, 5), (3, 2), {"mixing_group_size": 2}),
    "prefix tokens": Case((6, 4), (3, 2), {"num_prefix_tokens": 2}),
    "normed queries and keys": Case((7, 3), (2, 3), {"qk_norm": True}),
    "a cell for each token": Case((5, 3), (9, 9)),
    "one landmark": Case((5, 3), (1, 1), {"num_prefix_tokens": 1}),
    "masked grid": Case((7, 5), (3, 2), {"num_prefix_tokens": 2}, mask=0.4),
    "nearly empty grid": Case((7, 5), (3, 2), mask=0.08),
    "sequence": Case((13,), (4,), {"num_prefix_tokens": 1}),
    "masked sequence": Case((13,), (5,), {"num_prefix_tokens": 1}, mask=0.6),
    "nearly empty sequence": Case((13,), (5,), mask=0.15),
    "volume": Case((5, 3, 2), (2, 2, 2)),
    "masked volume": Case((5, 3, 2), (2, 2, 2), {"num_prefix_tokens": 1}, mask=0.5),
    "context": Case((7, 5), (3, 2), {"num_prefix_tokens": 1}, context_grid=(5, 4)),
    "masked context": Case((7, 5), (3, 2), {"num_prefix_tokens": 1}, (5, 4), mask=0.5, context_mask=0.5),
    "context masked alone": Case((6, 5), (3, 2), {}, (5, 4), context_mask=0.4),
    "masked sequence of context": Case((9,), (4,), {"num_prefix_tokens": 1}, (11,), context_mask=0.4),
    "local term": Case((7, 5), (3, 2), {"local_kernel": 3, "num_prefix_tokens": 1}, mask=0.7),
    "local term wider than a rank": Case((7, 5), (3, 2), {"local_kernel": 7}),
    "local term of a sequence": Case((11,), (3,), {"local_kernel": 5}),
    "local term of a volume": Case((5, 3, 2), (2, 2, 2), {"local_kernel": 3}),
}


def tell(size: int, name: str, result: object) -> None:
    """A line of JSON, at once: ranks share one pipe."""
    os.write(1, (json.dumps([size, name, result]) + "\n").encode())


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_layer(case: Case, **options: Any) -> InteractiveAttention:
    torch.manual_seed(0)
    layer = InteractiveAttention(DIM, HEADS, landmarks=case.landmarks, **case.layer, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return layer


def rows_of(rows: int, ranks: int) -> list[int]:
    """An uneven share for each: the first has one row, and the last what is left."""
    shares = [1] * ranks
    for i in range(rows - ranks):
        shares[-1 - i % max(1, ranks - 1 - (ranks > 2))] += 1
    return shares


def inputs_of(case: Case) -> dict[str, Tensor]:
    prefix, given = case.layer.get("num_prefix_tokens", 0), {}
    sides = (
        ("x", "key_mask", case.grid, case.mask),
        ("context", "context_mask", case.context_grid, case.context_mask),
    )
    for seed, (name, mask, grid, valid) in enumerate(sides):
        if grid is None:
            continue
        tokens = prefix + prod(grid)
        given[name] = draw(BATCH, tokens, DIM, seed=seed)
        if valid is not None:
            given[mask] = torch.rand(BATCH, tokens, generator=torch.Generator().manual_seed(7 + seed)) < valid
            given[mask][-1] = False  # nothing of the last sample takes part
            given[name][~given[mask]] = torch.nan
    given["cotangent"] = draw(BATCH, prefix + prod(case.grid), DIM, seed=5)
    return given


def of_rank(x: Tensor, grid: tuple[int, ...], prefix: int, rows: list[int], rank: int) -> Tensor:
    row = prod(grid[1:])
    end = prefix + row * list(accumulate(rows))[rank]
    return torch.cat([x[:, :prefix], x[:, end - row * rows[rank] : end]], dim=1)


def outcome(
    layer: Callable[..., Tensor], parameters: dict[str, Tensor], given: dict[str, Tensor], **grids: Any
) -> Results:
    """The output and every gradient, of tokens and parameters."""
    given = dict(given)
    cotangent = given.pop("cotangent")
    leaves = {name: x.clone().requires_grad_() for name, x in given.items() if x.is_floating_point()}
    output = layer(**{**given, **leaves}, **grids)
    output.backward(cotangent)
    results = {"output": output.detach(), **{f"grad {name}": x.grad for name, x in leaves.items()}}
    for name, parameter in parameters.items():
        results[f"grad {name}"] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parameter.grad = None
    return {name: x for name, x in results.items() if x is not None}


def penalty(
    layer: Callable[..., Tensor], parameters: dict[str, Tensor], given: dict[str, Tensor], **grids: Any
) -> Results:
    """The gradient of a gradient's square."""
    x = given["x"].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x, **grids), x, given["cotangent"], create_graph=True)
    # Prefix tokens have a part of their gradient on each rank, whose square is none of the whole.
    found = torch.autograd.grad(
        gradient.square().sum(), [x, *parameters.values()], materialize_grads=True, allow_unused=True
    )
    names = ["x", *parameters]
    return {"output": gradient.detach(), **{f"grad {n}": g for n, g in zip(names, found, strict=True)}}


def whole(case: Case, layer: Any, given: dict[str, Tensor], *, compute: Compute = outcome) -> Results:
    grids = {"grid": case.grid} | ({"context_grid": case.context_grid} if case.context_grid else {})
    return compute(layer, dict(layer.named_parameters()), given, **grids)


def shared(
    case: Case,
    layer: Any,
    given: dict[str, Tensor],
    *,
    compute: Compute = outcome,
    call: Callable[..., Tensor] | None = None,
) -> Results:
    """The same by this rank, put together on all of them; `call` stands for the layer where it is given."""
    rank, size = distributed.get_rank(), distributed.get_world_size()
    prefix = case.layer.get("num_prefix_tokens", 0)
    own, grids = {}, {}
    for name, x in given.items():
        of_context = name.startswith("context")
        grid = case.context_grid if of_context and case.context_grid else case.grid
        rows = rows_of(grid[0], size)
        own[name] = of_rank(x, grid, prefix, rows, rank)
        grids["context_grid" if of_context else "grid"] = (rows[rank], *grid[1:])
    own["cotangent"][:, :prefix] /= size  # every rank has the outputs of prefix tokens: count them once
    parts: list[Any] = [None] * size
    distributed.all_gather_object(
        parts, compute(layer if call is None else call, dict(layer.named_parameters()), own, **grids)
    )
    together = {}
    for name in parts[0]:
        each = [part[name].double() for part in parts]
        if name in ("output", "grad x", "grad context"):
            copies = torch.stack([part[:, :prefix] for part in each])
            of_prefix = copies[0] if name == "output" else copies.sum(0)
            joined = torch.cat([of_prefix, *(part[:, prefix:] for part in each)], dim=1)
        else:
            joined = torch.stack(each).sum(0)
        together[name] = joined.to(parts[0][name].dtype)
    return together


def largest_difference(one: Results, other: Results) -> float:
    """Infinite where a number is missing, or there is nothing to compare."""
    assert one.keys() == other.keys()
    assert other["output"].any()
    differences = torch.stack([(one[name] - other[name]).abs().max() for name in one])
    return differences.nan_to_num(inf).max().item()


class Stack(nn.Module):
    """Two layers on residual paths."""

    def __init__(self, case: Case, *, checkpointed: bool | None = None, **options: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList([make_layer(case, **options) for _ in range(2)])
        self.reentrant = checkpointed

    def forward(self, x: Tensor, **call: Any) -> Tensor:
        for layer in self.layers:
            change = partial(layer, **call)
            kept = self.reentrant is None
            x = x + (change(x) if kept else checkpoint(change, x, use_reentrant=self.reentrant))
        return x
